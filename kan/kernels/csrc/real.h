/* The kernels for one number type. */
#include "pieces.h"
#include "points.h"
#include "edges.h"
#include "network.h"
#include "projection.h"
#include "lbfgs.h"
#include "normal.h"
#include "layer.h"
#undef KAN_LANES
#undef KAN_EDGES
#undef KAN_LOAD
#undef KAN_AT
#undef KAN_WIDEST
