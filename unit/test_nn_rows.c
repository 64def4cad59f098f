/*
 * test_nn_rows.c
 *	  Attention and layer normalisation of every instruction set of this machine
 *	  against naive loops in double: strides, masks, ends of vectors, rows without
 *	  a key, slices, in place.
 */
#include "nn_kernels_ref.h"

/* Rows of one operand: pitch between rows, between heads. */
static void
lay_out(int heads, int rows, int width, size_t *row, size_t *head, size_t *total)
{
	if (between(0, 1))			/* heads side by side in a row, as projections leave them */
	{
		*row = (size_t) heads * width + between(0, 5);
		*head = width;
		*total = *row * (rows - 1) + (size_t) heads * width;
	}
	else
	{
		*row = width + between(0, 3);
		*head = *row * rows;
		*total = *head * (heads - 1) + *row * (rows - 1) + width;
	}
}

/* Exactly as much memory as is used: ASan sees a byte more. */
static float *
filled(size_t n)
{
	return floats(n);
}

static void
test_attend(void)
{
	bool		good = true,
				sliced = true;

	for (int t = 0; t < 120 && good; t++)
	{
		nn_attend	a = {.heads = between(1, 4), .queries = between(1, 40), .keys = between(1, t % 9 == 0 ? 300 : 50),
			.dim = t % 3 ? 16 * between(1, 4) : between(1, 70), .vdim = t % 4 ? 16 * between(1, 4) : between(1, 70),
			.safe = t & 1, .scale = 0.5f};
		size_t		nq,
					nk,
					nv,
					ny;
		float	   *q,
				   *k,
				   *v,
				   *y,
				   *again;
		const float *mask[2] = {NULL, NULL};
		void	   *scratch = aligned(K->attend_scratch(&a));
		int			blind = t % 5 == 0 ? between(0, a.queries - 1) : -1;
		int			cut = between(0, a.queries);

		lay_out(a.heads, a.queries, a.dim, &a.q_row, &a.q_head, &nq);
		lay_out(a.heads, a.keys, a.dim, &a.k_row, &a.k_head, &nk);
		lay_out(a.heads, a.keys, a.vdim, &a.v_row, &a.v_head, &nv);
		lay_out(a.heads, a.queries, a.vdim, &a.y_row, &a.y_head, &ny);
		q = filled(nq);
		k = filled(nk);
		v = filled(nv);
		y = malloc(ny * sizeof(float));
		again = malloc(ny * sizeof(float));
		for (size_t i = 0; i < ny; i++)
			y[i] = again[i] = 77;
		for (int m = 0; m < 2; m++)
		{
			size_t		n;
			float	   *p;

			if (m == 0 ? t % 5 != 0 && t % 3 == 0 : t % 4 != 1)
				continue;
			a.m_row[m] = m == 0 || t & 2 ? (size_t) a.keys : 0;
			a.m_head[m] = t & 4 ? a.m_row[m] * a.queries : 0;
			n = a.m_head[m] * (a.heads - 1) + a.m_row[m] * (a.queries - 1) + a.keys;
			p = filled(n);
			for (size_t i = 0; i < n; i++)
				if (rnd() % 4 == 0)
					p[i] = m == 0 ? -INFINITY : -20;
			if (m == 0 && blind >= 0)
				for (int h = 0; h < a.heads; h++)
					for (int j = 0; j < a.keys; j++)
						p[h * a.m_head[0] + blind * a.m_row[0] + j] = -INFINITY;
			mask[m] = p;
		}
		for (int h = 0; h < a.heads; h++)
		{
			K->attend(&a, h, 0, a.queries, q, k, v, mask, y, scratch);
			if (cut > 0)
				K->attend(&a, h, 0, cut, q, k, v, mask, again, scratch);
			if (cut < a.queries)
			{
				if (cut == 0)
					K->attend(&a, h, 0, a.queries, q, k, v, mask, again, scratch);
				else
					K->attend(&a, h, cut, a.queries, q, k, v, mask, again, scratch);
			}
		}
		for (int h = 0; h < a.heads; h++)
			for (int i = 0; i < a.queries; i++)
			{
				double	   *s = malloc(a.keys * sizeof(double));
				double		top = -INFINITY,
							sum = 0;

				for (int j = 0; j < a.keys; j++)
				{
					s[j] = 0;
					for (int e = 0; e < a.dim; e++)
						s[j] += (double) q[h * a.q_head + i * a.q_row + e] * k[h * a.k_head + j * a.k_row + e];
					s[j] *= a.scale;
					for (int m = 0; m < 2; m++)
						if (mask[m])
							s[j] += mask[m][h * a.m_head[m] + i * a.m_row[m] + j];
					top = s[j] > top ? s[j] : top;
				}
				for (int j = 0; j < a.keys; j++)
				{
					s[j] = exp(s[j] - top);
					sum += s[j];
				}
				for (int e = 0; e < a.vdim; e++)
				{
					float		got = y[h * a.y_head + i * a.y_row + e];
					double		want = 0;

					for (int j = 0; j < a.keys; j++)
						want += s[j] / sum * v[h * a.v_head + j * a.v_row + e];
					bool		right = top > -INFINITY ? close_to(got, want, 1) : a.safe ? got == 0 : isnan(got);

					if (!right && good)
						printf("# head %d, row %d: %g instead of %g\n", h, i, got, want);
					good &= right;
				}
				free(s);
			}
		for (size_t i = 0; i < ny; i++)	/* NaNs have the same bits too */
			sliced &= memcmp(&y[i], &again[i], sizeof(float)) == 0;
		if (!good || !sliced)
			printf("# case %d: %d heads, %d to %d rows, %d, %d\n", t, a.heads, a.queries, a.keys, a.dim, a.vdim);
		free(q);
		free(k);
		free(v);
		free(y);
		free(again);
		free((void *) mask[0]);
		free((void *) mask[1]);
		free(scratch);
	}
	ok(good, "%s: attention", K->name);
	ok(sliced, "%s: attention by slices of queries gives the same bits", K->name);
}

static void
test_layernorm(void)
{
	bool		good = true,
				in_place = true;

	for (int t = 0; t < 60 && good; t++)
	{
		int			rows = between(1, 5),
					n = between(1, t % 6 ? 80 : 1600);
		bool		rms = t & 1;
		float		eps = t & 2 ? 1e-12f : 1e-5f;
		float	   *x = floats((size_t) rows * n),
				   *scale = floats(n),
				   *shift = t & 4 ? floats(n) : NULL,
				   *y = malloc((size_t) rows * n * sizeof(float));

		K->layernorm(x, scale, shift, y, rows, n, eps, rms);
		for (int r = 0; r < rows; r++)
		{
			double		mean = 0,
						var = 0;

			for (int i = 0; i < n && !rms; i++)
				mean += x[r * n + i] / (double) n;
			for (int i = 0; i < n; i++)
				var += (x[r * n + i] - mean) * (x[r * n + i] - mean) / n;
			for (int i = 0; i < n; i++)
			{
				double		want = (x[r * n + i] - mean) / sqrt(var + eps) * scale[i] + (shift ? shift[i] : 0);

				/* of one value nothing is left but rounding */
				good &= close_to(y[r * n + i], want, n == 1 ? 100 : 2);
			}
		}
		K->layernorm(x, scale, shift, x, rows, n, eps, rms);
		in_place &= memcmp(x, y, (size_t) rows * n * sizeof(float)) == 0;
		free(x);
		free(scale);
		free(shift);
		free(y);
	}
	ok(good, "%s: layer normalisation", K->name);
	ok(in_place, "%s: layer normalisation in place", K->name);
}

/* Large products: blocks of rows, chunks of K, copied rows of a bad pitch. */
static void
test_large(void)
{
	static const int sizes[][3] = {{113, 70, 40}, {230, 40, 33}, {17, 1024, 48}, {30, 2048, 20}, {5, 1500, 64}};
	bool		good = true;

	for (size_t t = 0; t < sizeof(sizes) / sizeof(sizes[0]); t++)
	{
		int			m = sizes[t][0],
					k = sizes[t][1],
					n = sizes[t][2];
		float	   *a = floats((size_t) m * k),
				   *b = floats((size_t) k * n),
				   *y = malloc((size_t) m * n * sizeof(float));
		void	   *pack = aligned(nn_gemm_pack_size(K->isa, k, n)),
				   *scratch = aligned(K->gemm_scratch(m, k, n));
		nn_act		none = {nn_act_none, 0, 0};

		nn_gemm_pack(&mr_env_malloc, K->isa, k, n, b, n, 1, NULL, pack);
		K->gemm(pack, m, a, k, NULL, 0, y, n, none, scratch);
		for (int i = 0; i < m; i++)
			for (int j = 0; j < n; j++)
			{
				double		sum = 0,
							mass = 0.01;

				for (int e = 0; e < k; e++)
				{
					sum += (double) a[(size_t) i * k + e] * b[(size_t) e * n + j];
					mass += fabs((double) a[(size_t) i * k + e] * b[(size_t) e * n + j]);
				}
				good &= close_to(y[(size_t) i * n + j], sum, mass);
			}
		free(a);
		free(b);
		free(y);
		free(pack);
		free(scratch);
	}
	ok(good, "%s: products of many rows and columns", K->name);
}

static void
test(void)
{
	test_attend();
	test_layernorm();
	test_large();
}

int
main(void)
{
	each_isa(test);
	return done_testing();
}
