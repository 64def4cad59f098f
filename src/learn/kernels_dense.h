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

/* y += f x */
static void
axpy(double f, const double *x, double *y, size_t n)
{
	size_t		i = 0;

	for (; i + 8 <= n; i += 8)
		LRN_UNROLL
		for (int h = 0; h < HALVES; h++)
			((half_u *) (y + i))[h] = ((half_u *) (y + i))[h] + ((const half_u *) (x + i))[h] * f;
	for (; i < n; i++)
		y[i] += x[i] * f;
}

/* ---- products of a packed matrix with a few vectors, in float32 ---- */

/*
 * y[c][row] = sum over j of x[row][j] w[j][c], c < l; x in groups of LRN_LANES
 * rows (kernels_cluster.h), l a multiple of 8.
 */
static void
project(const float *x, int64_t groups, int d, const float *w, int l, float *y, size_t stride)
{
	for (int64_t at = 0; at < groups * LRN_LANES; at += VF * TILE)
	{
		const float *rows = x + (size_t) (at / LRN_LANES) * LRN_LANES * (size_t) d + at % LRN_LANES;

		for (int c = 0; c < l; c += 8)
		{
			vf			sum[8][TILE];
			const float *v = w + c;

			LRN_UNROLL
			for (int a = 0; a < 8; a++)
				LRN_UNROLL
				for (int r = 0; r < TILE; r++)
					sum[a][r] = (vf) {0};
			for (int j = 0; j < d; j++, v += l)
				LRN_UNROLL
				for (int r = 0; r < TILE; r++)
				{
					vf			e = *(const vf *) (rows + (size_t) j * LRN_LANES + r * VF);

					LRN_UNROLL
					for (int a = 0; a < 8; a++)
						sum[a][r] = sum[a][r] + e * v[a];
				}
			LRN_UNROLL
			for (int a = 0; a < 8; a++)
				LRN_UNROLL
				for (int r = 0; r < TILE; r++)
					*(vf *) (y + (size_t) (c + a) * stride + at + r * VF) = sum[a][r];
		}
	}
}

#define SIXTEEN	(16 / VF)		/* vectors of sixteen lanes */

/*
 * z[j][c] += sum over rows of x[row][j] y[c][row], GRAM by GRAM, in sixteen
 * lanes.  The first tile of its features fetches those of the next.
 */
INLINE void
project_back_tile(const float *x, int64_t groups, int d, const float *y, size_t stride, double *z, int l,
				  const bool first)
{
	vf			s[GRAM][GRAM][SIXTEEN];

	LRN_UNROLL
	for (int i = 0; i < GRAM; i++)
		LRN_UNROLL
		for (int c = 0; c < GRAM; c++)
			LRN_UNROLL
			for (int h = 0; h < SIXTEEN; h++)
				s[i][c][h] = (vf) {0};
	for (int64_t at = 0; at < groups * LRN_LANES; at += 16)
	{
		const float *rows = x + (size_t) (at / LRN_LANES) * LRN_LANES * (size_t) d + at % LRN_LANES;

		LRN_UNROLL
		for (int h = 0; h < SIXTEEN; h++)
		{
			vf			b[GRAM];

			LRN_UNROLL
			for (int c = 0; c < GRAM; c++)
				b[c] = *(const vf *) (y + (size_t) c * stride + at + h * VF);
			LRN_UNROLL
			for (int i = 0; i < GRAM; i++)
			{
				vf			a = *(const vf *) (rows + i * LRN_LANES + h * VF);

				if (first)
					__builtin_prefetch(rows + (GRAM + i) * LRN_LANES + h * VF);
				LRN_UNROLL
				for (int c = 0; c < GRAM; c++)
					s[i][c][h] = s[i][c][h] + a * b[c];
			}
		}
	}
	LRN_UNROLL
	for (int i = 0; i < GRAM; i++)
		LRN_UNROLL
		for (int c = 0; c < GRAM; c++)
		{
			float		lane[16];
			double		half_sum[2] = {0, 0};

			LRN_UNROLL
			for (int h = 0; h < SIXTEEN; h++)
				*(vf *) (lane + h * VF) = s[i][c][h];
			for (int k = 0; k < 16; k += 2)
			{
				half_sum[0] += (double) lane[k];
				half_sum[1] += (double) lane[k + 1];
			}
			z[(size_t) i * (size_t) l + (size_t) c] += half_sum[0] + half_sum[1];
		}
}

/* For features j0 .. j1-1 (multiples of 4 but for the last, up to which x may be read on). */
static void
project_back(const float *x, int64_t groups, int d, int j0, int j1, const float *y, size_t stride,
			 double *z, int l)
{
	for (int j = j0; j < j1; j += GRAM)
	{
		const float *features = x + (size_t) j * LRN_LANES;
		double	   *out = z + (size_t) j * (size_t) l;

		project_back_tile(features, groups, d, y, stride, out, l, true);
		for (int c = GRAM; c < l; c += GRAM)
			project_back_tile(features, groups, d, y + (size_t) c * stride, stride, out + c, l, false);
	}
}
