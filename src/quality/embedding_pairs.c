/*
 * embedding_pairs.c
 *	  Vectors whose cosine is large: a blocked product of the matrix with itself, upper triangle, in float32, and
 *	  sums in double for what comes near the threshold.
 *
 * Vectors are brought to unit length and packed into panels of some columns, dimension by dimension; blocks of rows that stay in the
 * L2 cache meet all panels before them.  The product's error is below (dims + 8) * 2^-23 (Higham, Accuracy and Stability, §3.1), so that
 * a threshold lower by that misses nothing.
 *
 * Memory: the panels, as large as the vectors; 8 bytes a vector; a block.
 */
#include "quality/pairs_int.h"

#include <math.h>
#include <string.h>

#define BLOCK_FLOATS 65536		/* of a block of rows: 256 kB */

typedef struct cosine_job
{
	const mr_env *env;
	const qlt_pair_kernels *kernels;
	const float *vectors;
	uint32_t	n;
	int			dims;
	double		min_cosine;
	float		least;			/* of a product in float32 */
	double	   *length;
	float	   *panels;			/* [n / cols][dims][cols] */
	float	   *block;			/* [rows of the block / rows][dims][rows] */
	qlt_out		out;
} cosine_job;

/* The same bits whatever the instruction set: four sums in order. */
static double
dot(const float *a, const float *b, int n)
{
	double		sum[4] = {0};
	int			i = 0;

	for (; i + 4 <= n; i += 4)
		for (int k = 0; k < 4; k++)
			sum[k] += (double) a[i + k] * (double) b[i + k];
	for (; i < n; i++)
		sum[0] += (double) a[i] * (double) b[i];
	return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

static mr_code
pack_panels(cosine_job *j, mr_status *st)
{
	size_t		cols = (size_t) j->kernels->cols,
				dims = (size_t) j->dims;

	for (uint32_t i = 0; i < j->n; i++)
	{
		const float *v = j->vectors + i * dims;
		float	   *to = j->panels + i / cols * dims * cols + i % cols;
		double		square = dot(v, v, j->dims);

		if (!isfinite(square))
			return mr_fail(st, MR_INVALID, "vector %u has an element that is not finite", i + 1);
		j->length[i] = sqrt(square);
		for (size_t k = 0; k < dims; k++)
			to[k * cols] = square > 0 ? (float) ((double) v[k] / j->length[i]) : 0;
		if ((i & 63) == 0 && mr_interrupted(j->env))
			return qlt_canceled(st);
	}
	/* Columns behind the last vector. */
	for (size_t i = j->n; i % cols != 0; i++)
		for (size_t k = 0; k < dims; k++)
			j->panels[i / cols * dims * cols + k * cols + i % cols] = 0;
	return MR_OK;
}

/* Rows from `from` on, in groups of the kernel's, zeros behind the last. */
static void
pack_block(cosine_job *j, uint32_t from, uint32_t rows)
{
	size_t		cols = (size_t) j->kernels->cols,
				side = (size_t) j->kernels->rows,
				dims = (size_t) j->dims;

	for (uint32_t r = 0; r < rows || r % side != 0; r++)
	{
		size_t		i = (size_t) from + r;
		const float *v = j->panels + i / cols * dims * cols + i % cols;
		float	   *to = j->block + r / side * dims * side + r % side;

		for (size_t k = 0; k < dims; k++)
			to[k * side] = r < rows ? v[k * cols] : 0;
	}
}

static mr_code
check_pair(cosine_job *j, uint32_t a, uint32_t b, float product, mr_status *st)
{
	double		lengths = j->length[a] * j->length[b],
				cosine;

	/* Not among the nearest by more than the error: nobody asks for the exact number. */
	if (!qlt_out_wants(&j->out, a, b, product + 2 * ((float) j->min_cosine - j->least)))
		return MR_OK;
	if (lengths == 0)
		return MR_OK;
	cosine = dot(j->vectors + (size_t) a * (size_t) j->dims, j->vectors + (size_t) b * (size_t) j->dims, j->dims) / lengths;
	if (cosine < j->min_cosine)
		return MR_OK;
	return qlt_out_pair(&j->out, a, b, cosine > 1 ? 1 : (float) cosine, st);
}

/* A block's rows with one panel, whose columns are earlier items. */
static mr_code
meet(cosine_job *j, uint32_t from, uint32_t rows, uint32_t panel, mr_status *st)
{
	float		out[QLT_MOST_ROWS * QLT_MOST_COLS];
	uint32_t	side = (uint32_t) j->kernels->rows,
				cols = (uint32_t) j->kernels->cols;
	const float *b = j->panels + (size_t) panel * (size_t) j->dims * cols;

	for (uint32_t r = 0; r < rows; r += side)
	{
		mr_code		code;

		if (mr_interrupted(j->env))
			return qlt_canceled(st);
		if (panel * cols >= from + r + side ||
			!j->kernels->tile(j->block + (size_t) r * (size_t) j->dims, b, j->dims, j->least, out))
			continue;
		for (uint32_t i = r; i < r + side && i < rows; i++)
			for (uint32_t c = 0; c < cols && panel * cols + c < from + i; c++)
				if (out[(i - r) * cols + c] >= j->least &&
					(code = check_pair(j, panel * cols + c, from + i, out[(i - r) * cols + c], st)) != MR_OK)
					return code;
	}
	return MR_OK;
}

static mr_code
run(cosine_job *j, mr_status *st)
{
	uint32_t	side = (uint32_t) j->kernels->rows,
				cols = (uint32_t) j->kernels->cols,
				rows = BLOCK_FLOATS / (uint32_t) j->dims / side * side;
	mr_code		code = pack_panels(j, st);

	rows = rows < side ? side : rows;
	for (uint32_t from = j->out.o->first; from < j->n && code == MR_OK; from += rows)
	{
		uint32_t	n = j->n - from < rows ? j->n - from : rows;

		pack_block(j, from, n);
		for (uint32_t panel = 0; panel * cols < from + n && code == MR_OK; panel++)
			code = meet(j, from, n, panel, st);
	}
	return code;
}

mr_code
qlt_embedding_pairs(const mr_env *env, const float *vectors, uint32_t n, int dims, double min_cosine,
					const qlt_pair_options *o, mr_status *st)
{
	cosine_job	j = {.env = env, .kernels = qlt_pair_kernels_for(o->isa), .vectors = vectors, .n = n, .dims = dims, .min_cosine = min_cosine};
	size_t		panels,
				block;
	mr_code		code;

	if (dims < 1 || dims > QLT_MOST_DIMS)
		return mr_fail(st, MR_INVALID, "vectors must have 1 to %d dimensions, not %d", QLT_MOST_DIMS, dims);
	if (!(min_cosine > -1 && min_cosine <= 1))
		return mr_fail(st, MR_INVALID, "min_cosine must be above -1 and at most 1, not %g", min_cosine);
	j.least = (float) (min_cosine - (dims + 8) * 1.2e-7);
	panels = ((size_t) n + QLT_MOST_COLS) * (size_t) dims * sizeof(float);
	block = ((size_t) BLOCK_FLOATS + QLT_MOST_ROWS * (size_t) dims) * sizeof(float);
	code = qlt_pairs_fit(o, panels + block + (size_t) n * sizeof(double) + qlt_out_memory(o, n), "comparing these vectors", st);
	if (code != MR_OK)
		return code;
	if ((code = qlt_out_begin(&j.out, env, o, n, true, st)) != MR_OK)
		return code;
	j.panels = mr_alloc(env, panels);
	j.block = mr_alloc(env, block);
	j.length = mr_alloc(env, (size_t) n * sizeof(double) + 1);
	code = j.panels && j.block && j.length ? run(&j, st) : qlt_no_memory(st);
	mr_free(env, j.panels);
	mr_free(env, j.block);
	mr_free(env, j.length);
	if (code == MR_OK)
		return qlt_out_end(&j.out, st);
	qlt_out_free(&j.out);
	return code;
}
