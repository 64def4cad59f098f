/*
 * test_nn_kernels_plain.c
 *	  Pools, element-wise work, softmax and layouts of every instruction set of
 *	  this machine against naive loops in double; infinities and NaN; poisoned
 *	  surroundings as in test_nn_kernels.c.
 */
#include "nn_kernels_ref.h"

/* ---- pools ---- */

static void
test_pools(void)
{
	bool		good = true;

	for (int i = 0; i < 60 && good; i++)
	{
		nn_pool		p = {.kh = between(1, 4), .kw = between(1, 4), .sh = between(1, 3), .sw = between(1, 3),
			.dh = 1, .dw = 1};
		bool		ceil_mode = between(0, 1),
					max = i & 1;
		int			h = between(4, 15),
					w = between(4, 20),
					c = between(1, 40);
		int			oh,
					ow,
					mid;
		tensor		in,
					out,
					cut;

		if (max)
			p.dh = p.dw = between(1, 2);
		p.pt = between(0, p.kh / 2);
		p.pb = between(0, p.kh / 2);
		p.pl = between(0, p.kw / 2);
		p.pr = between(0, p.kw / 2);
		p.count_pad = between(0, 1);
		if (h + p.pt + p.pb < (p.kh - 1) * p.dh + 1 || w + p.pl + p.pr < (p.kw - 1) * p.dw + 1)
			continue;
		oh = (h + p.pt + p.pb - ((p.kh - 1) * p.dh + 1) + (ceil_mode ? p.sh - 1 : 0)) / p.sh + 1;
		ow = (w + p.pl + p.pr - ((p.kw - 1) * p.dw + 1) + (ceil_mode ? p.sw - 1 : 0)) / p.sw + 1;
		/* the last window must start inside the input or the leading pad */
		if ((oh - 1) * p.sh >= h + p.pt)
			oh--;
		if ((ow - 1) * p.sw >= w + p.pl)
			ow--;
		in = make(c, h, w, no_margin());
		fill(&in);
		out = make(c, oh, ow, some_margin());
		cut = make(c, oh, ow, no_margin());
		mid = between(0, oh);
		(max ? K->maxpool : K->avgpool) (&p, &in.v, &out.v, 0, oh);
		(max ? K->maxpool : K->avgpool) (&p, &in.v, &cut.v, 0, mid);
		(max ? K->maxpool : K->avgpool) (&p, &in.v, &cut.v, mid, oh);
		good = clean(&out) && clean(&cut) && same(&out, &cut);
		for (int k = 0; k < c; k++)
			for (int y = 0; y < oh; y++)
				for (int x = 0; x < ow; x++)
				{
					double		m = -INFINITY,
								sum = 0;
					int			cells = 0;

					for (int ky = 0; ky < p.kh; ky++)
						for (int kx = 0; kx < p.kw; kx++)
						{
							int			iy = y * p.sh - p.pt + ky * p.dh,
										ix = x * p.sw - p.pl + kx * p.dw;
							bool		in_side = iy >= 0 && iy < h && ix >= 0 && ix < w;

							if (in_side)
							{
								double		v = *cell(&in.v, k, iy, ix);

								m = v > m ? v : m;
								sum += v;
							}
							cells += p.count_pad ? iy < h + p.pb && ix < w + p.pr : in_side;
						}
					if (max ? *cell(&out.v, k, y, x) != (float) m :
						!close_to(*cell(&out.v, k, y, x), cells ? sum / cells : 0, 1))
						good = false;
				}
		free(in.base);
		free(out.base);
		free(cut.base);
	}
	ok(good, "%s: max and average pools", K->name);

	good = true;
	for (int i = 0; i < 10; i++)
	{
		int			c = between(1, 70),
					h = between(1, 9),
					w = between(1, 9);
		tensor		in = make(c, h, w, some_margin());
		float	   *mean = aligned(64 * nn_blocks(c)),
				   *top = aligned(64 * nn_blocks(c));

		fill(&in);
		K->global_avgpool(&in.v, mean);
		K->global_maxpool(&in.v, top);
		for (int k = 0; k < 16 * nn_blocks(c); k++)
		{
			double		sum = 0,
						m = k < c ? -INFINITY : 0;

			for (int y = 0; y < h; y++)
				for (int x = 0; x < w; x++)
				{
					sum += *cell(&in.v, k, y, x);
					m = fmax(m, *cell(&in.v, k, y, x));
				}
			good &= close_to(mean[k], sum / (h * w), 0.1) && top[k] == (float) m;
		}
		free(in.base);
		free(mean);
		free(top);
	}
	ok(good, "%s: global pools", K->name);
}

/* ---- element-wise, layouts ---- */

static double
binary_ref(int op, double a, double b)
{
	switch (op)
	{
		case nn_add:
			return a + b;
		case nn_sub:
			return a - b;
		case nn_mul:
			return a * b;
		case nn_div:
			return a / b;
		case nn_min:
			return fmin(a, b);
		default:
			return fmax(a, b);
	}
}

static void
test_elementwise(void)
{
	bool		good = true;

	for (int i = 0; i < 72 && good; i++)
	{
		nn_binary	op = i % 6;
		nn_act		act = random_act(i % (nn_act_last + 1));
		int			c = between(1, 40),
					h = between(1, 7),
					w = between(1, 9);
		bool		pixel = between(0, 1);
		tensor		a = make(c, h, w, some_margin()),
					b = make(c, pixel ? 1 : h, pixel ? 1 : w, some_margin()),
					out = make(c, h, w, some_margin());
		int			mid = between(0, h);

		fill(&a);
		fill(&b);
		if (op == nn_div)
			for (int k = 0; k < c; k++)
				for (int y = 0; y < b.v.h; y++)
					for (int x = 0; x < b.v.w; x++)
						*cell(&b.v, k, y, x) += 2;
		K->binary(op, &a.v, &b.v, &out.v, act, 0, mid);
		K->binary(op, &a.v, &b.v, &out.v, act, mid, h);
		good = clean(&out);
		for (int k = 0; k < c; k++)
			for (int y = 0; y < h; y++)
				for (int x = 0; x < w; x++)
					good &= close_to(*cell(&out.v, k, y, x),
									 act_ref(binary_ref(op, *cell(&a.v, k, y, x),
														*cell(&b.v, k, pixel ? 0 : y, pixel ? 0 : x)), act), 0.1);
		/* in place */
		K->binary(op, &a.v, &b.v, &a.v, act, 0, h);
		good &= same(&a, &out);
		free(a.base);
		free(b.base);
		free(out.base);
	}
	ok(good, "%s: two tensors, activation", K->name);

	good = true;
	for (int i = 0; i < 36 && good; i++)
	{
		nn_act		act = random_act(i % (nn_act_last + 1));
		int			c = between(1, 40),
					h = between(1, 7),
					w = between(1, 9);
		tensor		in = make(c, h, w, some_margin()),
					out = make(c, h, w, some_margin());
		float	   *scale = i % 3 ? floats(c) : NULL,
				   *shift = i % 4 ? floats(c) : NULL;

		fill(&in);
		K->scale_shift(&in.v, scale, shift, &out.v, act, 0, h);
		good = clean(&out);
		for (int k = 0; k < c; k++)
			for (int y = 0; y < h; y++)
				for (int x = 0; x < w; x++)
					good &= close_to(*cell(&out.v, k, y, x),
									 act_ref((double) *cell(&in.v, k, y, x) * (scale ? scale[k] : 1) +
											 (shift ? shift[k] : 0), act), 0.1);
		free(in.base);
		free(out.base);
		free(scale);
		free(shift);
	}
	ok(good, "%s: scale and shift", K->name);

	good = true;
	for (int i = 0; i < 60 && good; i++)
	{
		size_t		n = between(1, 100);
		nn_act		act = random_act(i % (nn_act_last + 1));
		float	   *a = floats(n),
				   *b = floats(n),
				   *y = floats(n);
		double		tiny = act.kind == nn_act_gelu ? 0.1 : 1e-6;

		for (size_t k = 0; k < n; k++)
			a[k] *= i < 24 ? 12 : 1e-2f;
		K->activate(a, y, n, act);
		for (size_t k = 0; k < n; k++)
			good &= close_to(y[k], act_ref(a[k], act), tiny);
		K->binary_flat(i % 6, a, b, y, n, act);
		for (size_t k = 0; k < n; k++)
			if (i % 6 != nn_div)
				good &= close_to(y[k], act_ref(binary_ref(i % 6, a[k], b[k]), act), 0.1);
		free(a);
		free(b);
		free(y);
	}
	ok(good, "%s: flat arrays", K->name);

	{
		float		x[] = {INFINITY, -INFINITY, NAN, 0, 88.7f, -87.0f, 89, -200, 1e-30f};
		float		y[9];
		nn_act		e = {nn_act_exp, 0, 0},
					relu = {nn_act_relu, 0, 0},
					none = {nn_act_none, 0, 0},
					t = {nn_act_tanh, 0, 0},
					silu = {nn_act_silu, 0, 0};

		K->activate(x, y, 9, e);
		good = isinf(y[0]) && y[1] == 0 && isnan(y[2]) && y[3] == 1 && close_to(y[4], exp(88.7f), 0) &&
			close_to(y[5], exp(-87.0), 0) && isinf(y[6]) && y[7] == 0 && y[8] == 1;
		K->activate(x, y, 9, relu);
		good &= isinf(y[0]) && y[1] == 0 && isnan(y[2]);
		K->binary_flat(nn_add, x, x, y, 9, none);
		good &= isinf(y[0]) && isinf(y[1]) && isnan(y[2]);
		K->binary_flat(nn_max, x, x + 1, y, 3, none);
		good &= isinf(y[0]) && isnan(y[1]) && isnan(y[2]);
		K->activate(x, y, 9, t);
		good &= y[0] == 1 && y[1] == -1 && isnan(y[2]) && y[3] == 0 && y[8] == x[8];
		K->activate(x, y, 9, silu);
		good &= isinf(y[0]) && y[1] == 0 && isnan(y[2]) && y[3] == 0;
		ok(good, "%s: infinities and NaN", K->name);
	}

	good = true;
	for (int i = 0; i < 20 && good; i++)
	{
		int			c = between(1, 60),
					h = between(1, 7),
					w = between(1, 9);
		size_t		n = (size_t) c * h * w;
		float	   *chw = floats(n),
				   *back = malloc(n * sizeof(float));
		tensor		t = make(c, h, w, some_margin()),
					big = make(c + 30, (h + 1) / 2, (w + 2) / 3, some_margin());
		int			from = between(0, c - 1),
					count = between(1, c - from),
					to = between(0, c + 30 - count),
					mid = between(0, h);

		K->to_blocked(chw, &t.v, mid, h);
		K->to_blocked(chw, &t.v, 0, mid);
		good = clean(&t);
		for (size_t k = 0; k < n; k++)
			good &= *cell(&t.v, k / (h * w), k / w % h, k % w) == chw[k];
		K->from_blocked(&t.v, back, mid, h);
		K->from_blocked(&t.v, back, 0, mid);
		good &= memcmp(chw, back, n * sizeof(float)) == 0;
		fill(&big);
		K->copy_channels(&t.v, from, count, 2, 3, &big.v, to, 0, big.v.h);
		for (int k = 0; k < count; k++)
			for (int y = 0; y < big.v.h; y++)
				for (int x = 0; x < big.v.w; x++)
					good &= *cell(&big.v, to + k, y, x) == *cell(&t.v, from + k, 2 * y, 3 * x);
		free(chw);
		free(back);
		free(t.base);
		free(big.base);
	}
	ok(good, "%s: layouts and copies of channels", K->name);
}

/* ---- softmax ---- */

static void
test_softmax(void)
{
	bool		good = true;

	for (int i = 0; i < 30; i++)
	{
		int			rows = between(1, 4),
					n = between(1, 70);
		float	   *x = floats(rows * n),
				   *y = malloc(rows * n * sizeof(float));

		for (int j = 0; j < rows * n; j++)
			x[j] *= 30;
		K->softmax(x, y, rows, n, i & 1);
		for (int r = 0; r < rows; r++)
		{
			double		top = -INFINITY,
						sum = 0;

			for (int c = 0; c < n; c++)
				top = fmax(top, x[r * n + c]);
			for (int c = 0; c < n; c++)
				sum += exp(x[r * n + c] - top);
			for (int c = 0; c < n; c++)
			{
				double		v = x[r * n + c] - top;

				good &= i & 1 ? close_to(y[r * n + c], v - log(sum), 1) : close_to(y[r * n + c], exp(v) / sum, 1e-30);
			}
		}
		K->softmax(x, x, rows, n, i & 1);
		good &= memcmp(x, y, rows * n * sizeof(float)) == 0;
		free(x);
		free(y);
	}
	ok(good, "%s: softmax", K->name);
}

static void
test(void)
{
	test_pools();
	test_elementwise();
	test_softmax();
}

int
main(void)
{
	each_isa(test);
	return done_testing();
}
