/*
 * kernels_logistic.h
 *	  Loss, gradient and probabilities of logistic regression on a block of
 *	  rows; part of kernels_impl.h.
 */

/*
 * scratch[c][row] = b_c + sum_j w[c][j] x[j][row] for cs classes from c0 on;
 * cs is a constant where it is called, for the sums to stay in registers.
 */
INLINE void
scores(float *const *col, int64_t first, int n8, int d, const double *w, const double *b,
	   int c0, const int cs, double *scratch)
{
	for (int i = 0; i < n8; i += 8)
	{
		v8			s[4];

		LRN_UNROLL
		for (int c = 0; c < cs; c++)
			s[c] = (v8) {0} + b[c0 + c];
		for (int j = 0; j < d; j++)
		{
			v8			x = CVT(*(const f8u *) (col[j] + first + i));

			LRN_UNROLL
			for (int c = 0; c < cs; c++)
				s[c] = s[c] + x * w[(size_t) (c0 + c) * (size_t) d + (size_t) j];
		}
		LRN_UNROLL
		for (int c = 0; c < cs; c++)
			*(v8 *) (scratch + (size_t) (c0 + c) * LRN_BLOCK + i) = s[c];
	}
}

/* grad[c][j] += sum over rows of scratch[c][row] x[j][row] for js columns and cs classes. */
INLINE void
gradient_tile(float *const *col, int64_t first, int n8, int d, const double *scratch,
			  int c0, const int cs, int j0, const int js, double *grad)
{
	v8			s[4][4];

	LRN_UNROLL
	for (int j = 0; j < js; j++)
		LRN_UNROLL
		for (int c = 0; c < cs; c++)
			s[j][c] = (v8) {0};
	for (int i = 0; i < n8; i += 8)
		LRN_UNROLL
		for (int j = 0; j < js; j++)
		{
			v8			x = CVT(*(const f8u *) (col[j0 + j] + first + i));

			LRN_UNROLL
			for (int c = 0; c < cs; c++)
				s[j][c] = s[j][c] + x * *(const v8 *) (scratch + (size_t) (c0 + c) * LRN_BLOCK + i);
		}
	for (int j = 0; j < js; j++)
		for (int c = 0; c < cs; c++)
			grad[(size_t) (c0 + c) * (size_t) (d + 1) + (size_t) (j0 + j)] += sum8(&s[j][c]);
}

INLINE void
gradients(float *const *col, int64_t first, int n8, int d, const double *scratch,
		  int c0, const int cs, double *grad)
{
	int			j = 0;

	for (; j + 4 <= d; j += 4)
		gradient_tile(col, first, n8, d, scratch, c0, cs, j, 4, grad);
	for (; j < d; j++)
		gradient_tile(col, first, n8, d, scratch, c0, cs, j, 1, grad);
	/* The intercept's. */
	for (int c = c0; c < c0 + cs; c++)
	{
		v8			s = (v8) {0};

		for (int i = 0; i < n8; i += 8)
			s = s + *(const v8 *) (scratch + (size_t) c * LRN_BLOCK + i);
		grad[(size_t) c * (size_t) (d + 1) + (size_t) d] += sum8(&s);
	}
}

/*
 * Eight rows of the binary model.  s: scores in, weight (p - y) out; share:
 * weight p, or NULL; weight 0 where there is no row.
 */
INLINE void
sigmoid_eight(v8 *s, v8 *share, const v8 *weight, const v8 *positive, v8 *loss)
{
	v8			zero = (v8) {0},
				score = *s,
				e = -score,
				top = score,
				sum,
				p,
				q;
	i8			above = ~(score < zero);

	SELECT8(above, e, score);	/* -|score| */
	SELECT8(above, top, zero);
	exp8(&e);
	sum = e + 1.0;
	p = 1.0 / sum;
	q = p * e;
	SELECT8(above, p, q);
	log8(&sum);
	*loss = *loss + *weight * (sum + (top - *positive * score));
	p = *weight * p;
	if (share)
		*share = p;
	*s = p - *weight * *positive;
}

/* Columns are padded by the caller: 8 floats beyond n may be read. */
static double
logistic_block(float *const *col, int64_t first, int n, int d, const int32_t *y,
			   const double *sw, const float *rw, int k, const double *w, const double *b,
			   double *grad, double *scratch, double *share)
{
	const int	step = LRN_BLOCK / 8;
	int			n8 = (n + 7) & ~7,
				c;
	v8			loss = (v8) {0};

	for (c = 0; c + 4 <= k; c += 4)
		scores(col, first, n8, d, w, b, c, 4, scratch);
	if (k - c == 3)
		scores(col, first, n8, d, w, b, c, 3, scratch);
	else if (k - c == 2)
		scores(col, first, n8, d, w, b, c, 2, scratch);
	else if (k - c == 1)
		scores(col, first, n8, d, w, b, c, 1, scratch);

	for (int i = 0; i < n8; i += 8)
	{
		int			lanes = n - i < 8 ? n - i : 8;
		v8		   *s = (v8 *) (scratch + i),
				   *p = share ? (v8 *) (share + i) : NULL;
		double		weight_of[8] __attribute__((aligned(64))) = {0},
					of_class[8] __attribute__((aligned(64))) = {0};
		v8			weight,
					top = *s,
					sum = (v8) {0};

		for (int lane = 0; lane < lanes; lane++)
		{
			int			class = y[first + i + lane];

			weight_of[lane] = sw[class];
			if (rw)
				weight_of[lane] *= (double) rw[first + i + lane];
			of_class[lane] = k == 1 ? class : s[class * step][lane];
		}
		weight = *(const v8 *) weight_of;
		if (k == 1)
		{
			sigmoid_eight(s, p, &weight, (const v8 *) of_class, &loss);
			continue;
		}
		for (c = 1; c < k; c++)
			SELECT8(top > s[c * step], top, s[c * step]);
		for (c = 0; c < k; c++)
		{
			v8			e = s[c * step] - top;

			exp8(&e);
			sum = sum + e;
			s[c * step] = e;
		}
		for (c = 0; c < k; c++)
		{
			s[c * step] = s[c * step] * (weight / sum);
			if (p)
				p[c * step] = s[c * step];
		}
		log8(&sum);
		loss = loss + weight * (top - *(const v8 *) of_class + sum);
		for (int lane = 0; lane < lanes; lane++)
			s[y[first + i + lane] * step][lane] -= weight_of[lane];
	}

	for (c = 0; c + 4 <= k; c += 4)
		gradients(col, first, n8, d, scratch, c, 4, grad);
	if (k - c == 3)
		gradients(col, first, n8, d, scratch, c, 3, grad);
	else if (k - c == 2)
		gradients(col, first, n8, d, scratch, c, 2, grad);
	else if (k - c == 1)
		gradients(col, first, n8, d, scratch, c, 1, grad);
	return sum8(&loss);
}
