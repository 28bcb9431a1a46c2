/* The kernels for one number type. */
#include "points.h"
#include "edges.h"
#include "network.h"
#undef KAN_LANES
