/*
 * predict.c
 *	  Which instruction set, and the two calls that predict.
 */
#include "learn/learn_int.h"

lrn_isa
lrn_isa_best(void)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
		return LRN_ISA_AVX512;
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return LRN_ISA_AVX2;
#endif
	return LRN_ISA_PORTABLE;
}

const lrn_kernels *
lrn_kernels_for(lrn_isa isa)
{
	lrn_isa		best = lrn_isa_best();

	if (isa == LRN_ISA_AUTO || isa > best)
		isa = best;
#if defined(__x86_64__)
	if (isa == LRN_ISA_AVX512)
		return &lrn_kernels_avx512;
	if (isa == LRN_ISA_AVX2)
		return &lrn_kernels_avx2;
#endif
	return &lrn_kernels_portable;
}

void
lrn_set_isa(lrn_model *model, lrn_isa isa)
{
	lrn_isa		best = lrn_isa_best();

	model->isa = isa == LRN_ISA_AUTO || isa > best ? best : isa;
}

int64_t
lrn_slice(const lrn_model *m)
{
	/* Generous: a deep tree takes 20 to 50 ns a row, a product 1 ns. */
	double		row = m->info.algorithm == LRN_RANDOM_FOREST ?
		(double) m->n_trees * 200 : (double) m->info.n_features * m->padded * 2 + 1000;
	double		rows = 10e6 / row;

	return rows < 1 ? 1 : rows > 65536 ? 65536 : (int64_t) rows;
}

void
lrn_predict_proba(const lrn_model *m, const float *rows, int64_t n, float *proba)
{
	const lrn_kernels *k = lrn_kernels_for(m->isa);

	if (m->info.algorithm == LRN_RANDOM_FOREST)
		k->forest_rows(m, rows, n, proba);
	else
		k->linear_rows(m, rows, n, proba);
}

void
lrn_transform(const lrn_model *m, const float *rows, int64_t n, float *out)
{
	lrn_predict_proba(m, rows, n, out);
}
