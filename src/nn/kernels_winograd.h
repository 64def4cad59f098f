/*
 * kernels_winograd.h
 *	  The two transforms of Winograd's F(4x4, 3x3), compiled once in each
 *	  instruction set's file.  The method is told in kernels_winograd.c.
 *
 * The including file defines how tensors are read and written, and their SiLU:
 * WINO_LOAD(pixel, lane), WINO_STORE(pixel, lane, values), WINO_SILU(values); and
 * how transformed inputs are kept: WINO_KEEP(tile, lane, values).
 *
 * Interpolation points 0, +-sqrt(1/2), +-sqrt(2), infinity: their constants are
 * of like size, which halves the rounding error of the usual 0, +-1, +-2, and
 * a^2 b^2 = 1 saves multiplications.
 */
#define WINO_A 0.70710678118654752f	/* a */
#define WINO_B 1.41421356237309505f	/* b */
#define WINO_A3 0.35355339059327376f	/* a^3 */
#define WINO_B3 2.82842712474619010f	/* b^3 */

/* t = B' d of tile + 2 values; 2.5 = a^2 + b^2, 2 = b^2, 1/2 = a^2 */
NN_INLINE void
wino_input_line(const vf *d, vf *t, const int tile)
{
	vf			even,
				odd;

	if (tile == 2)
	{
		t[0] = d[0] - d[2];
		t[1] = d[2] + d[1];
		t[2] = d[2] - d[1];
		t[3] = d[3] - d[1];
		return;
	}
	even = vf_fma(vf_set1(-2), d[2], d[4]);
	odd = vf_fma(vf_set1(-2), d[1], d[3]);
	t[0] = vf_fma(vf_set1(-2.5f), d[2], d[0] + d[4]);
	t[1] = vf_fma(vf_set1(WINO_A), odd, even);
	t[2] = vf_fma(vf_set1(-WINO_A), odd, even);
	even = vf_fma(vf_set1(-0.5f), d[2], d[4]);
	odd = vf_fma(vf_set1(-0.5f), d[1], d[3]);
	t[3] = vf_fma(vf_set1(WINO_B), odd, even);
	t[4] = vf_fma(vf_set1(-WINO_B), odd, even);
	t[5] = vf_fma(vf_set1(-2.5f), d[3], d[1] + d[5]);
}

/* y = A' m: tile values */
NN_INLINE void
wino_output_line(const vf *m, vf *y, const int tile)
{
	vf			s1 = m[1] + m[2],
				d1 = m[1] - m[2],
				s2,
				d2;

	if (tile == 2)
	{
		y[0] = m[0] + s1;
		y[1] = d1 + m[3];
		return;
	}
	s2 = m[3] + m[4];
	d2 = m[3] - m[4];
	y[0] = m[0] + s1 + s2;
	y[1] = vf_fma(vf_set1(WINO_A), d1, vf_set1(WINO_B) * d2);
	y[2] = vf_fma(vf_set1(0.5f), s1, s2 + s2);
	y[3] = vf_fma(vf_set1(WINO_A3), d1, vf_fma(vf_set1(WINO_B3), d2, m[5]));
}

/* One tile of one block of channels: (tile + 2)^2 pixels, of which only rows x
 * cols exist, the others count as zeros; v: as many times 16 results, pitch
 * floats apart. */
NN_INLINE void
wino_input_tile(const int tile, const float *x, size_t row_pitch, int rows, int cols, float *v, size_t pitch,
				const bool whole)
{
	const int	side = tile + 2;

	for (int lane = 0; lane < NN_LANES; lane += VW)
	{
		vf			t[36];		/* columns transformed: [xi][x] */

		for (int j = 0; j < side; j++)
		{
			vf			d[6],
						u[6];

			NN_UNROLL
			for (int i = 0; i < side; i++)
				d[i] = whole || (i < rows && j < cols) ?
					WINO_LOAD(x + i * row_pitch + j * NN_LANES, lane) : vf_set1(0);
			wino_input_line(d, u, tile);
			NN_UNROLL
			for (int i = 0; i < side; i++)
				t[i * side + j] = u[i];
		}
		for (int i = 0; i < side; i++)
		{
			vf			u[6];

			wino_input_line(t + i * side, u, tile);
			NN_UNROLL
			for (int j = 0; j < side; j++)
				WINO_KEEP(v + (size_t) (i * side + j) * pitch, lane, u[j]);
		}
	}
}

static void
wino_input(int tile, const float *x, size_t row_pitch, int rows, int cols, float *v, size_t pitch)
{
	if (tile == 2)
		wino_input_tile(2, x, row_pitch, rows, cols, v, pitch, false);
	else if (rows == 6 && cols == 6)
		wino_input_tile(4, x, row_pitch, 6, 6, v, pitch, true);
	else
		wino_input_tile(4, x, row_pitch, rows, cols, v, pitch, false);
}

/* The first rows x cols of a tile's outputs from its (tile + 2)^2 sums. */
NN_INLINE void
wino_output_tile(const int tile, const float *m, size_t pitch, const nn_wino_out *w, const float *res, float *o,
				 int rows, int cols, const bool whole, const bool add, const bool silu)
{
	const int	side = tile + 2;
	vf			lo = vf_set1(w->lo),
				hi = vf_set1(w->hi);

	for (int lane = 0; lane < NN_LANES; lane += VW)
	{
		vf			bias = vf_load(w->bias + lane);
		vf			t[24];		/* columns transformed: [y][xi] */

		for (int j = 0; j < side; j++)
		{
			vf			d[6],
						u[4];

			NN_UNROLL
			for (int i = 0; i < side; i++)
				d[i] = vf_load(m + (size_t) (i * side + j) * pitch + lane);
			wino_output_line(d, u, tile);
			NN_UNROLL
			for (int i = 0; i < tile; i++)
				t[i * side + j] = u[i];
		}
		for (int i = 0; i < (whole ? tile : rows); i++)
		{
			vf			u[4];

			wino_output_line(t + i * side, u, tile);
			NN_UNROLL
			for (int j = 0; j < tile; j++)
				if (whole || j < cols)
				{
					vf			y = u[j] + bias;

					if (add)
						y = y + WINO_LOAD(res + i * w->res_pitch + j * NN_LANES, lane);
					y = silu ? WINO_SILU(y) : vf_min(hi, vf_max(lo, y));
					WINO_STORE(o + i * w->out_pitch + j * NN_LANES, lane, y);
				}
		}
	}
}

/* The residual and the activation become constants. */
NN_INLINE void
wino_output_any(const int tile, const float *m, size_t pitch, const nn_wino_out *w, const float *res, float *o,
				int rows, int cols, const bool whole)
{
	if (w->silu)
	{
		if (res)
			wino_output_tile(tile, m, pitch, w, res, o, rows, cols, whole, true, true);
		else
			wino_output_tile(tile, m, pitch, w, res, o, rows, cols, whole, false, true);
	}
	else if (res)
		wino_output_tile(tile, m, pitch, w, res, o, rows, cols, whole, true, false);
	else
		wino_output_tile(tile, m, pitch, w, res, o, rows, cols, whole, false, false);
}

static void
wino_output(int tile, const float *m, size_t pitch, const nn_wino_out *w, const float *res, float *o, int rows, int cols)
{
	if (tile == 2)
		wino_output_any(2, m, pitch, w, res, o, rows, cols, false);
	else if (rows < 4 || cols < 4)
		wino_output_any(4, m, pitch, w, res, o, rows, cols, false);
	else
		wino_output_any(4, m, pitch, w, res, o, 4, 4, true);
}
