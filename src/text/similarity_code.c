/*
 * similarity_code.c
 *	  Codes of vectors: their sizes, their centre, the blocks that signs lie in.
 */
#include "text/similarity_int.h"

#include <string.h>

int
sim_bits(int n)
{
	return n < SIM_MAX_BITS ? (n + 63) / 64 * 64 : SIM_MAX_BITS;
}

size_t
sim_block_size(int n)
{
	return SIM_BLOCK * ((size_t) sim_bits(n) / 8 + 2 * sizeof(uint16_t));
}

size_t
sim_bytes_size(int n)
{
	return sizeof(sim_bytes) + ((size_t) n + 15) / 16 * 16;
}

void
sim_centre_add(sim_metric metric, const float *vector, int n, double *sum)
{
	double		factor = 1;

	if (metric == SIM_COSINE)
	{
		double		square = sim_dot(vector, vector, n);

		if (square == 0)
			return;
		factor = 1 / sqrt(square);
	}
	for (int i = 0; i < n; i++)
		sum[i] += factor * (double) vector[i];
}

/* Rotated, as codes need it.  A centre that a float sum could overflow with is none. */
void
sim_centre_finish(const double *sum, int64_t count, int n, float *centre)
{
	float		mean[SIM_MAX_DIM + 16] = {0};
	double		most = 0;

	for (int i = 0; i < n; i++)
		most = fmax(most, fabs(sum[i]));
	for (int i = 0; i < n; i++)
		mean[i] = count > 0 && most / (double) count < 1e30 ? (float) (sum[i] / (double) count) : 0;
	sim_kernel()->rotate(mean, n);
	memcpy(centre, mean, (size_t) n * sizeof(float));
}

void
sim_encode(const sim_params *p, const float *vector, sim_signs *signs, void *bytes)
{
	sim_kernel()->encode(p, vector, signs, bytes);
}

/* The 16-bit numbers of a block: offsets, then scales. */
static uint16_t *
numbers(const void *block, int n)
{
	return (uint16_t *) ((const uint8_t *) block + (size_t) sim_bits(n) / 8 * SIM_BLOCK);
}

void
sim_block_clear(void *block, int n)
{
	memset(block, 0, sim_block_size(n));
	for (int i = 0; i < SIM_BLOCK; i++)
		numbers(block, n)[i] = SIM_EMPTY;
}

void
sim_block_put(void *block, int n, int i, const sim_signs *signs)
{
	uint8_t    *byte = (uint8_t *) block + i;

	for (int b = 0; b < sim_bits(n) / 8; b++, byte += SIM_BLOCK)
		*byte = signs->bit[b];
	numbers(block, n)[sim_place(i)] = signs->offset;
	numbers(block, n)[SIM_BLOCK + sim_place(i)] = signs->scale;
}

/* The bits stay: an infinite offset makes any estimate infinite, below nothing. */
void
sim_block_remove(void *block, int n, int i)
{
	numbers(block, n)[sim_place(i)] = SIM_EMPTY;
}

void
sim_block_copy(void *block, int to, const void *source, int from, int n)
{
	sim_signs	signs;
	const uint8_t *byte = (const uint8_t *) source + from;

	for (int b = 0; b < sim_bits(n) / 8; b++, byte += SIM_BLOCK)
		signs.bit[b] = *byte;
	signs.offset = numbers(source, n)[sim_place(from)];
	signs.scale = numbers(source, n)[SIM_BLOCK + sim_place(from)];
	sim_block_put(block, n, to, &signs);
}

bool
sim_block_empty(const void *block, int n, int i)
{
	return numbers(block, n)[sim_place(i)] == SIM_EMPTY;
}
