/*
 * rng.c
 *	  Seeded random numbers: xoshiro256** (Blackman and Vigna, 2018).
 *
 * Bit-equal on every machine.  Each tree has a stream of its own, so that its
 * numbers do not depend on how many the trees before it drew.
 */
#include "learn/learn_int.h"

static uint64_t
splitmix64(uint64_t *x)
{
	uint64_t	z = (*x += 0x9E3779B97F4A7C15u);

	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	return z ^ (z >> 31);
}

void
lrn_rng_seed(lrn_rng *rng, uint64_t seed, uint64_t stream)
{
	uint64_t	x = seed;

	/* The stream number is mixed before it meets the seed: (0,1) != (1,0). */
	x = splitmix64(&x) ^ (stream * 0xD1342543DE82EF95u + 0x2545F4914F6CDD1Du);
	for (int i = 0; i < 4; i++)
		rng->s[i] = splitmix64(&x);
}

static inline uint64_t
rotl(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

uint64_t
lrn_rng_next(lrn_rng *rng)
{
	uint64_t   *s = rng->s;
	uint64_t	result = rotl(s[1] * 5, 7) * 9;
	uint64_t	t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return result;
}

/* Lemire's multiplication with rejection ("Fast random integer generation", 2019). */
uint32_t
lrn_rng_below(lrn_rng *rng, uint32_t n)
{
	uint64_t	m = (lrn_rng_next(rng) >> 32) * n;

	if ((uint32_t) m < n)
	{
		uint32_t	floor = -n % n;

		while ((uint32_t) m < floor)
			m = (lrn_rng_next(rng) >> 32) * n;
	}
	return (uint32_t) (m >> 32);
}
