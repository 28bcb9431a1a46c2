/* The kernels for one number type. */
#include "points.h"
#include "edges.h"
#include "network.h"
#include "lbfgs.h"
#include "normal.h"
#undef KAN_LANES
