/*
 * kernels_dense.h
 *	  Products of columns in double; part of kernels_impl.h.
 *
 * A sum over rows has eight lanes whatever the registers hold, row r in lane
 * r % 8, and sum8() joins them: the shape of a tile does not change its bits.
 */

/* z[r] = (x[r] - shift) * root[r], root NULL = 1; zeros up to a multiple of 8. */
static void
widen(const float *x, int n, double shift, const double *root, double *z)
{
	int			r = 0;

	for (; r + 8 <= n; r += 8)
	{
		v8			v = CVT(*(const f8u *) (x + r)) - shift;

		if (root)
			v = v * *(const v8u *) (root + r);
		*(v8u *) (z + r) = v;
	}
	for (; r < n; r++)
		z[r] = root ? ((double) x[r] - shift) * root[r] : (double) x[r] - shift;
	for (; r & 7; r++)
		z[r] = 0;
}

#if defined(__AVX512F__)
#define GRAM	4				/* a tile's side */
#else
#define GRAM	2
#endif

/* c[i][j] += sum over r of a[i][r] b[j][r], GRAM by GRAM. */
INLINE void
gram_tile(const double *a, const double *b, size_t stride, int len, double *c, size_t ld)
{
	half		s[GRAM][GRAM][HALVES];

	LRN_UNROLL
	for (int i = 0; i < GRAM; i++)
		LRN_UNROLL
		for (int j = 0; j < GRAM; j++)
			LRN_UNROLL
			for (int h = 0; h < HALVES; h++)
				s[i][j][h] = (half) {0};
	for (int r = 0; r < len; r += 8)
		LRN_UNROLL
		for (int h = 0; h < HALVES; h++)
		{
			half		y[GRAM];

			LRN_UNROLL
			for (int j = 0; j < GRAM; j++)
				y[j] = ((const half *) (b + (size_t) j * stride + r))[h];
			LRN_UNROLL
			for (int i = 0; i < GRAM; i++)
			{
				half		x = ((const half *) (a + (size_t) i * stride + r))[h];

				LRN_UNROLL
				for (int j = 0; j < GRAM; j++)
					s[i][j][h] = s[i][j][h] + x * y[j];
			}
		}
	LRN_UNROLL
	for (int i = 0; i < GRAM; i++)
		LRN_UNROLL
		for (int j = 0; j < GRAM; j++)
		{
			v8			whole;

			LRN_UNROLL
			for (int h = 0; h < HALVES; h++)
				((half *) &whole)[h] = s[i][j][h];
			c[(size_t) i * ld + (size_t) j] += sum8(&whole);
		}
}

static void
gram(const double *a, const double *b, size_t stride, int len, int i0, int i1, int j0, int j1,
	 double *c, size_t ld)
{
	for (int i = i0; i < i1; i += GRAM)
		for (int j = j0; j < j1 && j <= i; j += GRAM)
			gram_tile(a + (size_t) i * stride, b + (size_t) j * stride, stride, len,
					  c + (size_t) i * ld + (size_t) j, ld);
}

static double
dot(const double *a, const double *b, size_t n)
{
	half		s[2][HALVES];
	v8			whole;
	double		sum;
	size_t		i = 0;

	LRN_UNROLL
	for (int t = 0; t < 2; t++)
		LRN_UNROLL
		for (int h = 0; h < HALVES; h++)
			s[t][h] = (half) {0};
	for (; i + 16 <= n; i += 16)
		LRN_UNROLL
		for (int t = 0; t < 2; t++)
			LRN_UNROLL
			for (int h = 0; h < HALVES; h++)
				s[t][h] = s[t][h] + ((const half_u *) (a + i + 8 * t))[h] * ((const half_u *) (b + i + 8 * t))[h];
	LRN_UNROLL
	for (int h = 0; h < HALVES; h++)
		((half *) &whole)[h] = s[0][h] + s[1][h];
	sum = sum8(&whole);
	for (; i < n; i++)
		sum += a[i] * b[i];
	return sum;
}
