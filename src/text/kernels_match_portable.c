/*
 * kernels_match_portable.c
 *	  Most similar rows, for any processor: vectors of four by the compiler.
 */
#include <string.h>

typedef float vf __attribute__((vector_size(16)));

#define LANES 4
#define TILE_B 2
#define ZERO ((vf) {0})
#define LOAD(p) load(p)
#define FMA(x, y, z) ((x) * (y) + (z))
#define SUM(v) (((v)[0] + (v)[2]) + ((v)[1] + (v)[3]))
#define MATCH txt_match_portable

static inline vf
load(const float *p)
{
	vf			v;

	memcpy(&v, p, sizeof(v));
	return v;
}

#include "text/kernels_match.h"
