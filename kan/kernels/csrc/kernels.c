/* All kernels for one instruction set, KAN_SET, in both number types. */
#include "portable.h"

#define REAL float
#define KAN_EPSILON FLT_EPSILON
#define NAME(name) KAN_PASTE(kan_##name, _f32_, KAN_SET)
#include "real.h"
#undef REAL
#undef KAN_EPSILON
#undef NAME

#define KAN_DOUBLE
#define REAL double
#define KAN_EPSILON DBL_EPSILON
#define NAME(name) KAN_PASTE(kan_##name, _f64_, KAN_SET)
#include "real.h"
