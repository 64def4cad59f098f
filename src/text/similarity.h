/*
 * similarity.h
 *	  Distances between vectors, exact, and compact codes to search many by.
 *
 * Exact sums are of doubles, in sixteen lanes (element i into lane i mod 16) that are
 * added in a fixed order: every instruction set gives the same bits.  Products of two floats
 * are exact in a double, and no sum of squares of floats overflows one, so that a result that
 * is not finite means an element that was not.
 *
 * Codes, two of each vector:
 *	- signs: a bit per dimension of the vector, rotated and less the centre of all, 32 vectors
 *	  interleaved in a block, and two 16-bit numbers.  sim_scan_signs() estimates the distances
 *	  of all vectors from them at the speed of memory: good for choosing candidates, no bound on
 *	  anything.  (The estimator is RaBitQ's: Gao and Long, SIGMOD 2024.)
 *	- bytes: the vector in 8-bit steps, the size of a step and the length of what the steps
 *	  leave out.  sim_lower_bound() is never above the distance that the operator computes.
 *
 * Codes are stored in indexes: what similarity_kernels_code.h makes of a vector must stay as it
 * is, or an index must say how its codes were made.
 *
 * Everything is pure, allocates nothing and keeps no state but the choice of kernels.
 */
#ifndef MILLRACE_TEXT_SIMILARITY_H
#define MILLRACE_TEXT_SIMILARITY_H

#include "nn/isa.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_MAX_DIM	8000		/* dimensions of a vector that codes are made of */
#define SIM_MAX_BITS 1536		/* sign bits of a vector: of the first dimensions of the rotated one */
#define SIM_BLOCK 32			/* vectors of a block of signs */

/* Stored in indexes: never renumber. */
typedef enum sim_metric
{
	SIM_COSINE = 1,				/* 1 - cosine of the angle: 0 to 2 */
	SIM_L2 = 2,					/* length of the difference */
	SIM_INNER = 3,				/* minus the inner product */
} sim_metric;

/* ---- similarity.c: exact distances of n floats ---- */

extern double sim_dot(const float *a, const float *b, int n);
extern double sim_l2_squared(const float *a, const float *b, int n);

/* dot, |a|^2 and |b|^2 in one pass */
extern void sim_dot_and_squares(const float *a, const float *b, int n, double out[3]);

/* What the operators return: of finite elements finite, but NaN for the cosine of a vector of length 0. */
extern double sim_distance(sim_metric metric, const float *a, const float *b, int n);

/* For tests: the kernels of one instruction set; nn_isa_auto for the best again. */
extern void sim_force(nn_isa isa);

/* ---- similarity_code.c: codes of a vector ---- */

/* What the codes of an index have in common. */
typedef struct sim_params
{
	sim_metric	metric;
	int			n;				/* dimensions, 1 to SIM_MAX_DIM */
	const float *centre;		/* n floats of sim_centre_finish(); NULL: the origin */
} sim_params;

/* The centre of a sample: add its vectors to n zeros; finish gives what an index is to keep.
 * Codes are of use only with the centre they were made with.  Far from the origin (the
 * outputs of a ReLU, say) a centre saves most of the error of estimates; elsewhere little. */
extern void sim_centre_add(sim_metric metric, const float *vector, int n, double *sum);
extern void sim_centre_finish(const double *sum, int64_t count, int n, float *centre);

/* Sign bits of a vector of n floats: n in whole 64s, at most SIM_MAX_BITS. */
extern int	sim_bits(int n);

/* Bytes of a block of signs, a multiple of 64 (best begun at one); 4 n + 128 for n in whole 64s. */
extern size_t sim_block_size(int n);

/* Bytes of a byte code: 8, and n in whole 16s. */
extern size_t sim_bytes_size(int n);

/* A vector's signs, before they are put into a block. */
typedef struct sim_signs
{
	uint8_t		bit[SIM_MAX_BITS / 8];
	uint16_t	scale,			/* upper halves of floats */
				offset;
} sim_signs;

/*
 * Codes of a vector of finite elements.  For the cosine the vector may be of any length; one
 * of length 0, whose distances are all NaN, gets codes that put it last.  bytes: sim_bytes_size(n).
 */
extern void sim_encode(const sim_params *p, const float *vector, sim_signs *signs, void *bytes);

/* Put signs into place i of a block; sim_block_clear() makes every place empty, never found. */
extern void sim_block_clear(void *block, int n);
extern void sim_block_put(void *block, int n, int i, const sim_signs *signs);

/* Empty one place: 2 bytes change. */
extern void sim_block_remove(void *block, int n, int i);

/* Move place `from` of one block to place `to` of another (or the same). */
extern void sim_block_copy(void *block, int to, const void *source, int from, int n);

/* Is the place empty or removed? */
extern bool sim_block_empty(const void *block, int n, int i);

/* ---- similarity_scan.c: a query against codes ---- */

typedef struct sim_query sim_query;

/* Bytes of a prepared query; memory to be 64-byte aligned. */
extern size_t sim_query_size(int n);

/* Prepare a vector of finite elements, in the caller's memory. */
extern sim_query *sim_prepare(const sim_params *p, const float *vector, void *memory);

/* An estimate and the number its vector has in the scan. */
typedef struct sim_candidate
{
	float		estimate;		/* of no unit: the nearer the smaller */
	uint32_t	number;
} sim_candidate;

/*
 * Estimates of n_blocks blocks, stride bytes apart: those above `least` (or equal, with a number
 * above least_number) and below `most` are appended to out, which has room for SIM_BLOCK
 * n_blocks; numbers are first, first + 1, … by place.  Returns how many.  Deterministic: scanned again
 * with `least` the last estimate taken, it goes on where it was.
 */
extern size_t sim_scan_signs(const sim_query *q, const void *blocks, size_t stride, int n_blocks, uint32_t first,
							 sim_candidate least, float most, sim_candidate *out);

/* A lower bound of the distance (that of sim_distance()) to the vector of a byte code; NaN if
 * the distance is NaN, that is for the cosine and length 0. */
extern double sim_lower_bound(const sim_query *q, const void *bytes);

/* ---- similarity_best.c: the k least of many candidates ---- */

typedef struct sim_best
{
	sim_candidate *list;		/* of `room` */
	size_t		room,			/* k + SIM_BLOCK times the blocks of one scan, or more: 2 k and more is quick */
				k,
				n;				/* filled */
	float		most;			/* what is not below cannot be among the k */
} sim_best;

extern void sim_best_init(sim_best *b, sim_candidate *list, size_t room, size_t k);

/* Scan into the list; keeps it below its room. */
extern void sim_best_scan(sim_best *b, const sim_query *q, const void *blocks, size_t stride, int n_blocks, uint32_t first,
						  sim_candidate least);

/* Leaves the k least (or all, if fewer) in the list, the greatest of them last; returns how many. */
extern size_t sim_best_finish(sim_best *b);

#endif							/* MILLRACE_TEXT_SIMILARITY_H */
