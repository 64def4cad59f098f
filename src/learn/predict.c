/*
 * predict.c
 *	  Which instruction set, and the call that predicts.
 */
#include "learn/learner.h"

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

bool
lrn_takes_missing(const lrn_model *m)
{
	return (m->learner->takes & LRN_TAKES_MISSING) != 0;
}

int64_t
lrn_slice(const lrn_model *m)
{
	double		rows = 10e6 / m->learner->row_ns(m);

	return rows < 1 ? 1 : rows > 65536 ? 65536 : (int64_t) rows;
}

void
lrn_predict(const lrn_model *m, const float *rows, int64_t n, float *out)
{
	m->learner->predict(m, rows, n, out);
	if (m->calibration.kind)
		lrn_kernels_for(m->isa)->calibrate_rows(m, n, out);
	else if (m->learner->takes & LRN_GIVES_SCORES)
		lrn_kernels_for(m->isa)->softmax_rows(m->info.n_classes, n, out);
}

void
lrn_scores(const lrn_model *m, const float *rows, int64_t n, float *out)
{
	m->learner->predict(m, rows, n, out);
}

/* Generous: a deep tree takes 20 to 50 ns a row, a product 1 ns. */
double
lrn_forest_row_ns(const lrn_model *m)
{
	return (double) m->n_trees * 200;
}

void
lrn_forest_predict(const lrn_model *m, const float *rows, int64_t n, float *out)
{
	lrn_kernels_for(m->isa)->forest_rows(m, rows, n, out);
}

double
lrn_linear_row_ns(const lrn_model *m)
{
	return (double) m->info.n_features * m->padded * 2 + 1000;
}

void
lrn_linear_predict(const lrn_model *m, const float *rows, int64_t n, float *out)
{
	lrn_kernels_for(m->isa)->linear_rows(m, rows, n, out);
}
