/*
 * similarity_int.h
 *	  What the files of the similarity kernels share.
 */
#ifndef MILLRACE_TEXT_SIMILARITY_INT_H
#define MILLRACE_TEXT_SIMILARITY_INT_H

#include "text/similarity.h"

#include <math.h>

/* A byte code: scale * step[i] is nearly element i. */
typedef struct sim_bytes
{
	float		scale;			/* NaN: a vector of length 0, for the cosine */
	float		error;			/* at least the length of what the steps leave out */
	int8_t		step[];			/* n, and zeros to a multiple of 16 */
} sim_bytes;

/*
 * A query, followed by its elements as doubles (of length 1 for the cosine; zeros to a multiple
 * of 16) and by its tables.
 *
 * Of a vector with signs s, <w, s> = step * A - sum |w|, where A adds up a table's entry for each 4 bits:
 * twice the elements of w whose bits are set less the least such sum, in whole
 * steps of 0 to SIM_TABLE_MOST.  Estimate = offset * of_offset - scale * (A * of_sum + constant).
 */
struct sim_query
{
	sim_params	p;
	int			bits;
	float		of_offset,
				of_sum,
				constant;
	double		length;
	double	   *element;
	uint8_t    *table;			/* of each 16 bits 128 bytes: see sim_table_at() */
};

#define SIM_TABLE_MOST 31		/* eight of them add up in a byte */

/* Where the 16 entries for bits 4 g .. 4 g + 3 begin; the next 16 bytes repeat them.  Two bytes
 * of code, low halves and then high ones, are looked up in 64 bytes each. */
static inline size_t
sim_table_at(int g)
{
	return (size_t) (g / 4) * 128 + (size_t) (g & 1) * 64 + (size_t) (g >> 1 & 1) * 32;
}

/* Within a block: byte b of the bits of all vectors lies together; the 16-bit numbers, offsets
 * first, are of the even vectors and then of the odd ones, as the sums leave the adders. */
static inline int
sim_place(int i)
{
	return (i & 1) * (SIM_BLOCK / 2) + i / 2;
}

#define SIM_EMPTY 0x7F80		/* offset of an empty place: infinity */

/* What a vector whose greatest element is `most` is multiplied by before it is rotated, so that
 * sums stay within a float. */
static inline double
sim_unit(sim_metric metric, float most)
{
	return metric != SIM_COSINE && most > 1e15f ? 1e-30 : 1;
}

typedef struct sim_kernels
{
	double		(*dot) (const float *a, const float *b, int n);
	double		(*l2_squared) (const float *a, const float *b, int n);
	void		(*dot_and_squares) (const float *a, const float *b, int n, double out[3]);
	void		(*rotate) (float *x, int n);	/* room for n in whole 16s */
	void		(*encode) (const sim_params *p, const float *vector, sim_signs *signs, sim_bytes *bytes);
	double		(*bytes_dot) (const double *q, const sim_bytes *code, int n);	/* of steps */
	double		(*bytes_l2_squared) (const double *q, const sim_bytes *code, int n);
	size_t		(*scan) (const sim_query *q, const uint8_t *blocks, size_t stride, int n_blocks, uint32_t first,
						 sim_candidate least, float most, sim_candidate *out);
} sim_kernels;

extern const sim_kernels sim_kernels_portable;
extern const sim_kernels sim_kernels_avx2;
extern const sim_kernels sim_kernels_avx512;

extern const sim_kernels *sim_kernel(void);

#endif							/* MILLRACE_TEXT_SIMILARITY_INT_H */
