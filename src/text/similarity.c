/*
 * similarity.c
 *	  Exact distances, and the choice of kernels.
 */
#include "text/similarity_int.h"

static const sim_kernels *chosen;

void
sim_force(nn_isa isa)
{
	if (isa == nn_isa_auto)
		isa = nn_isa_best();
	chosen = &sim_kernels_portable;
#if defined(__x86_64__)
	if (isa >= nn_isa_avx512)
		chosen = &sim_kernels_avx512;
	else if (isa == nn_isa_avx2)
		chosen = &sim_kernels_avx2;
#endif
}

const sim_kernels *
sim_kernel(void)
{
	if (chosen == NULL)
		sim_force(nn_isa_auto);
	return chosen;
}

double
sim_dot(const float *a, const float *b, int n)
{
	return sim_kernel()->dot(a, b, n);
}

double
sim_l2_squared(const float *a, const float *b, int n)
{
	return sim_kernel()->l2_squared(a, b, n);
}

void
sim_dot_and_squares(const float *a, const float *b, int n, double out[3])
{
	sim_kernel()->dot_and_squares(a, b, n, out);
}

/* Rounding may leave a cosine beyond 1; a NaN stays one. */
static double
cosine_distance(double dot, double squares)
{
	double		cosine = dot / sqrt(squares);

	return cosine > 1 ? 0 : cosine < -1 ? 2 : 1 - cosine;
}

double
sim_distance(sim_metric metric, const float *a, const float *b, int n)
{
	double		sums[3];

	switch (metric)
	{
		case SIM_COSINE:
			sim_dot_and_squares(a, b, n, sums);
			return cosine_distance(sums[0], sums[1] * sums[2]);
		case SIM_L2:
			return sqrt(sim_l2_squared(a, b, n));
		case SIM_INNER:
			return 0 - sim_dot(a, b, n);	/* 0, not -0 */
	}
	return NAN;
}
