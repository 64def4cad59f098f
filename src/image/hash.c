/*
 * hash.c
 *	  Perceptual hash by the discrete cosine transform, in all eight positions.
 *
 * The hash is imagehash.phash() (PyPI imagehash): luma at 32 x 32, Lanczos;
 * DCT-II of columns and rows; of the 8 x 8 lowest frequencies, the constant
 * one included, the bit is 1 where the coefficient exceeds their median; bits
 * row by row, the vertical frequency naming the row, first bit highest.
 *
 * Mirroring an image changes the sign of its odd frequencies, and transposing
 * it transposes its coefficients, so all eight hashes come of one transform.
 * The transform is in integers, with a table whose symmetries are exact: the
 * hash of a mirrored image is the mirrored hash bit for bit, flat images have
 * coefficients of exactly 0, and a hash is the same on every machine.
 */
#include "image/facts.h"

#include <math.h>
#include <string.h>

#define SIDE 32
#define LOW 8
#define FRACTION_BITS 15

/* cos(pi * u * (2 * x + 1) / 64) in fixed point; the sign is applied to a rounded magnitude. */
static void
cosines(int32_t c[LOW][SIDE])
{
	for (int u = 0; u < LOW; u++)
		for (int x = 0; x < SIDE; x++)
		{
			int			turn = u * (2 * x + 1) % (4 * SIDE);	/* 128 is the full circle */
			int			half = turn > 2 * SIDE ? 4 * SIDE - turn : turn;
			bool		minus = half > SIDE;
			int			quarter = minus ? 2 * SIDE - half : half;
			int32_t		size = quarter == SIDE ? 0
			: (int32_t) lrint(cos(M_PI * quarter / (2 * SIDE)) * (1 << FRACTION_BITS));

			c[u][x] = minus ? -size : size;
		}
}

/* Twice the median: the sum of the two values in the middle. */
static int64_t
twice_median(const int64_t *coef)
{
	int64_t		v[LOW * LOW];

	for (int i = 0; i < LOW * LOW; i++)
	{
		int			j = i;

		for (; j > 0 && v[j - 1] > coef[i]; j--)
			v[j] = v[j - 1];
		v[j] = coef[i];
	}
	return v[LOW * LOW / 2 - 1] + v[LOW * LOW / 2];
}

static uint64_t
bits_above(const int64_t *coef, int64_t twice)
{
	uint64_t	hash = 0;

	for (int i = 0; i < LOW * LOW; i++)
		hash = hash << 1 | (uint64_t) (2 * coef[i] > twice);
	return hash;
}

/*
 * hash[0] is the image's; then: 1 mirrored left to right, 2 upside down,
 * 3 turned by 180 degrees, 4 transposed, 5 turned right, 6 turned left,
 * 7 transposed over the other diagonal.
 */
void
img_hash_of_luma(const uint8_t *luma, uint64_t hash[8])
{
	static int32_t c[LOW][SIDE];
	int32_t		rows[SIDE][LOW];
	int64_t		coef[LOW][LOW];

	if (c[0][0] == 0)
		cosines(c);
	for (int y = 0; y < SIDE; y++)
		for (int u = 0; u < LOW; u++)
		{
			int32_t		sum = 0;

			for (int x = 0; x < SIDE; x++)
				sum += c[u][x] * luma[y * SIDE + x];
			rows[y][u] = sum;
		}
	for (int v = 0; v < LOW; v++)
		for (int u = 0; u < LOW; u++)
		{
			int64_t		sum = 0;

			for (int y = 0; y < SIDE; y++)
				sum += (int64_t) c[v][y] * rows[y][u];
			coef[v][u] = sum;
		}

	for (int k = 0; k < 4; k++)
	{
		int			swapped = (k & 1) << 1 | k >> 1;
		int64_t		seen[LOW][LOW];
		int64_t		turned[LOW][LOW];
		int64_t		twice;

		for (int v = 0; v < LOW; v++)
			for (int u = 0; u < LOW; u++)
			{
				bool		minus = ((k & 1) && (u & 1)) != ((k & 2) && (v & 1));

				seen[v][u] = turned[u][v] = minus ? -coef[v][u] : coef[v][u];
			}
		twice = twice_median(&seen[0][0]);
		hash[k] = bits_above(&seen[0][0], twice);
		/* mirrored and then transposed is transposed and then mirrored along the other axis */
		hash[4 + swapped] = bits_above(&turned[0][0], twice);
	}
}

mr_code
img_hash(const mr_env *env, const img_pixels *small, uint64_t hash[8], mr_status *st)
{
	uint8_t		luma[SIDE * SIDE];
	img_pixels	square;
	mr_code		code;

	code = img_resize(env, small, SIDE, SIDE, img_lanczos, NULL, &square, st);
	if (code != MR_OK)
		return code;
	for (int y = 0; y < SIDE; y++)
		for (int x = 0; x < SIDE; x++)
			luma[y * SIDE + x] = img_luma_of(square.data + (size_t) y * square.stride + (size_t) x * 3);
	img_free(env, &square);
	img_hash_of_luma(luma, hash);
	return MR_OK;
}
