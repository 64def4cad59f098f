/*
 * alike.c
 *	  Two images compared in all eight positions.
 */
#include "quality/alike.h"

/* Which of b's pixels comes to (y, x) when b is flipped or turned: the order of img_hash(). */
static int
source_of(int turn, int y, int x)
{
	const int	last = IMG_THUMB_SIDE - 1;

	switch (turn)
	{
		case 1:
			x = last - x;
			break;
		case 2:
			y = last - y;
			break;
		case 3:
			x = last - x;
			y = last - y;
			break;
		case 4:
			return x * IMG_THUMB_SIDE + y;
		case 5:
			return (last - x) * IMG_THUMB_SIDE + y;
		case 6:
			return x * IMG_THUMB_SIDE + last - y;
		case 7:
			return (last - x) * IMG_THUMB_SIDE + last - y;
		default:
			break;
	}
	return y * IMG_THUMB_SIDE + x;
}

static float
correlation(const float *a, const float *b, int turn)
{
	double		sum = 0;

	for (int y = 0; y < IMG_THUMB_SIDE; y++)
		for (int x = 0; x < IMG_THUMB_SIDE; x++)
		{
			const float *p = a + 3 * (y * IMG_THUMB_SIDE + x),
					   *q = b + 3 * source_of(turn, y, x);

			for (int c = 0; c < 3; c++)
				sum += (double) p[c] * (double) q[c];
		}
	return (float) sum;
}

/*
 * Bits above a median change with the signs that a turn changes, so the way back may be shorter; b turned as a is a turned the other way.
 */
static int
distance(const uint64_t a[8], const uint64_t b[8], int turn)
{
	int			back = turn == 5 ? 6 : turn == 6 ? 5 : turn,
				one = img_hash_distance(a[0], b[turn]),
				other = img_hash_distance(b[0], a[back]);

	return one < other ? one : other;
}

qlt_alike
qlt_look_alike(const uint64_t a_hash[8], const float a[IMG_THUMB_LEN], const uint64_t b_hash[8], const float b[IMG_THUMB_LEN])
{
	qlt_alike	best = {-1, 0, 0};

	for (int turn = 0; turn < 8; turn++)
	{
		qlt_alike	one = {turn, distance(a_hash, b_hash, turn), correlation(a, b, turn)};

		if (best.turn < 0 || one.cosine - 0.005f * (float) one.distance > best.cosine - 0.005f * (float) best.distance)
			best = one;
	}
	return best;
}
