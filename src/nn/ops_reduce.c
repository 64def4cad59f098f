/*
 * ops_reduce.c
 *	  Reductions over any axes, ArgMax and ArgMin, on any numeric type.
 *
 * Neighbouring axes of one fate are merged; then either whole columns of the
 * innermost kept axis are accumulated side by side, or, where the innermost axis
 * goes, a run of it is folded into LANES columns first.  Floats accumulate in
 * double, integers in 64 bits, wrapping.
 */
#include <math.h>

#include "nn/ops_util.h"

#define COLUMNS 256
#define LANES 32

typedef union accumulators
{
	double		f[COLUMNS];		/* of floats, and of ReduceLogSumExp */
	int64_t		i[COLUMNS];
} accumulators;

/* ---- reductions: i[0] = bits of reduced axes; op->arg: nn_reduce ---- */

mr_code
nn_infer_reduce(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_shape	s = {0};
	int64_t		axes[NN_MAX_RANK],
				keep,
				noop = 0;
	int			which = c->n->op->arg;
	int			n,
				input_since = which == nn_reduce_sum ? 13 : 18;

	if (!((which == nn_reduce_max || which == nn_reduce_min) && x->dtype == nn_bool && c->n->opset >= 20))
		NN_TRY(nn_need_type(c, 0, nn_is_number));
	NN_TRY(nn_get_int(c, "keepdims", 1, &keep));
	if (c->n->opset < input_since)
		NN_TRY(nn_get_ints(c, "axes", NN_MAX_RANK, axes, &n));
	else
	{
		NN_TRY(nn_const_ints(c, 1, NN_MAX_RANK, axes, &n));
		NN_TRY(nn_get_int(c, "noop_with_empty_axes", 0, &noop));
	}
	if (n <= 0 && !noop)
		c->p->i[0] = (1 << x->shape.rank) - 1;
	for (int i = 0; i < n; i++)
	{
		NN_TRY(nn_norm_axis(c, &axes[i], x->shape.rank));
		c->p->i[0] |= 1 << axes[i];
	}
	for (int i = 0; i < x->shape.rank; i++)
	{
		if (!(c->p->i[0] >> i & 1))
			s.dims[s.rank++] = x->shape.dims[i];
		else if (keep)
			s.dims[s.rank++] = 1;
	}
	return nn_set_out(c, 0, x->dtype, &s);
}

/* Axes of one fate, innermost first. */
typedef struct walk
{
	int			n;
	int64_t		dim[NN_MAX_RANK + 1],
				stride[NN_MAX_RANK + 1],
				at[NN_MAX_RANK + 1];
} walk;

/* Step to the next offset; false after the last (and everything is back at 0). */
static bool
walk_next(walk *w, int64_t *off)
{
	for (int i = 0; i < w->n; i++)
	{
		*off += w->stride[i];
		if (++w->at[i] < w->dim[i])
			return true;
		*off -= w->stride[i] * w->dim[i];
		w->at[i] = 0;
	}
	return false;
}

static double
start_float(int which)
{
	switch (which)
	{
		case nn_reduce_prod:
			return 1;
		case nn_reduce_max:
			return -INFINITY;
		case nn_reduce_min:
			return INFINITY;
	}
	return 0;
}

static int64_t
start_integer(int which, int dtype)
{
	int			bits = (int) nn_dtype_size(dtype) * 8;
	int64_t		least = nn_is_unsigned(dtype) || dtype == nn_bool ? 0 : (int64_t) (~UINT64_C(0) << (bits - 1));

	switch (which)
	{
		case nn_reduce_prod:
			return 1;
		case nn_reduce_max:
			return least;
		case nn_reduce_min:
			return dtype == nn_bool ? 1 : ~least;
	}
	return 0;
}

#define COLUMN_LOOP(value, result) \
	for (int64_t r = 0; r < rows; r++, x += pitch) \
		for (int j = 0; j < cols; j++) \
		{ \
			const double v = value; \
			a[j] = result; \
		} \
	break

/* which: also nn_reduce_log_sum_exp, its second pass; top: the maxima of the first */
static void
take_float(int which, const float *x, int64_t rows, int64_t pitch, int cols, double *a, const double *top)
{
	switch (which)
	{
		case nn_reduce_max:
			COLUMN_LOOP(x[j], v > a[j] ? v : a[j]);
		case nn_reduce_min:
			COLUMN_LOOP(x[j], v < a[j] ? v : a[j]);
		case nn_reduce_prod:
			COLUMN_LOOP(x[j], a[j] * v);
		case nn_reduce_l1:
			COLUMN_LOOP(x[j], a[j] + fabs(v));
		case nn_reduce_l2:
		case nn_reduce_sum_square:
			COLUMN_LOOP(x[j], a[j] + v * v);
		case nn_reduce_log_sum_exp:
			COLUMN_LOOP(x[j], a[j] + exp(v - top[j]));
		default:
			COLUMN_LOOP(x[j], a[j] + v);
	}
}

/* Maxima and sums of exponentials of integers, for ReduceLogSumExp. */
static void
take_as_float(int which, const nn_tensor *t, int64_t at, int64_t rows, int64_t pitch, int cols, double *a,
			  const double *top)
{
	NN_WITH_INTEGER(t->dtype,
					const T *x = (const T *) t->data + at;

					for (int64_t r = 0; r < rows; r++, x += pitch)
						for (int j = 0; j < cols; j++)
							a[j] = which == nn_reduce_log_sum_exp ? a[j] + exp((double) x[j] - top[j]) :
								fmax(a[j], (double) x[j]);
		);
}

static void
take_integer(int which, const nn_tensor *t, int64_t at, int64_t rows, int64_t pitch, int cols, int64_t *a)
{
	NN_WITH_NUMBER_OR_BOOL(t->dtype,
						   const T *x = (const T *) t->data + at;

						   for (int64_t r = 0; r < rows; r++, x += pitch)
							   for (int j = 0; j < cols; j++)
							   {
								   const T		v = x[j];
								   const uint64_t u = (uint64_t) v;
								   const uint64_t sum = (uint64_t) a[j];

								   switch (which)
								   {
									   case nn_reduce_max: a[j] = v > (T) a[j] ? (int64_t) v : a[j]; break;
									   case nn_reduce_min: a[j] = v < (T) a[j] ? (int64_t) v : a[j]; break;
									   case nn_reduce_prod: a[j] = (int64_t) (sum * u); break;
									   case nn_reduce_l1: a[j] = (int64_t) (sum + (v > 0 ? u : 0 - u)); break;
									   case nn_reduce_l2:
									   case nn_reduce_sum_square: a[j] = (int64_t) (sum + u * u); break;
									   default: a[j] = (int64_t) (sum + u);
								   }
							   }
		);
}

/* Columns [1, n) join column 0. */
static void
join_lanes(int which, bool as_float, int dtype, int n, accumulators *acc)
{
	int			join = which == nn_reduce_max || which == nn_reduce_min || which == nn_reduce_prod ? which : nn_reduce_sum;

	for (int j = 1; j < n; j++)
		if (as_float)
		{
			double		a = acc->f[0],
						b = acc->f[j];

			acc->f[0] = join == nn_reduce_max ? fmax(a, b) : join == nn_reduce_min ? fmin(a, b) :
				join == nn_reduce_prod ? a * b : a + b;
		}
		else
		{
			nn_tensor	one = {dtype == nn_uint64 ? nn_uint64 : nn_int64, {0}, 1, &acc->i[j]};

			take_integer(join, &one, 0, 1, 1, 1, acc->i);
		}
}

static double
finish(int which, double a, double top, int64_t cells)
{
	switch (which)
	{
		case nn_reduce_mean:
			return a / (double) cells;
		case nn_reduce_l2:
			return sqrt(a);
		case nn_reduce_log_sum:
			return log(a);
		case nn_reduce_log_sum_exp:
			return top + log(a);
	}
	return a;
}

static void
store(int which, bool as_float, nn_tensor *y, int64_t at, int n, const accumulators *acc, const double *top,
	  int64_t cells)
{
	NN_WITH_NUMBER_OR_BOOL(y->dtype,
						   T *dst = (T *) y->data + at;

						   for (int j = 0; j < n; j++)
							   if (as_float)
								   dst[j] = (T) finish(which, acc->f[j], top[j], cells);
							   else if (which == nn_reduce_mean && cells)
								   dst[j] = (T) (acc->i[j] / cells);
							   else if (which == nn_reduce_l2 || which == nn_reduce_log_sum)
								   dst[j] = (T) finish(which, (double) acc->i[j], 0, cells);
							   else
								   dst[j] = (T) acc->i[j];
		);
}

/* Axes of x into kept and gone, merged; returns the number of cells of a result. */
static int64_t
split_axes(const nn_shape *x, int64_t bits, walk *kept, walk *gone)
{
	int64_t		stride = 1,
				cells = 1;
	walk	   *before = NULL;

	memset(kept, 0, sizeof(*kept));
	memset(gone, 0, sizeof(*gone));
	for (int i = x->rank - 1; i >= 0; i--)
	{
		walk	   *w = bits >> i & 1 ? gone : kept;

		if (w == gone)
			cells *= x->dims[i];
		if (x->dims[i] != 1)
		{
			if (w != before)
			{
				w->dim[w->n] = 1;
				w->stride[w->n++] = stride;
			}
			w->dim[w->n - 1] *= x->dims[i];
			before = w;
		}
		stride *= x->dims[i];
	}
	return cells;
}

mr_code
nn_run_reduce(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	nn_tensor  *y = &c->out[0];
	int			which = c->op->arg;
	bool		as_float = x->dtype == nn_float32 || which == nn_reduce_log_sum_exp;
	walk		kept,
				gone;
	int64_t		cells = split_axes(&x->shape, c->p->i[0], &kept, &gone);
	bool		run = gone.n && (kept.n == 0 || gone.stride[0] < kept.stride[0]);
	int64_t		cols = run || kept.n == 0 ? 1 : kept.dim[0];
	int64_t		rows = gone.n ? gone.dim[0] : 1;
	int64_t		pitch = gone.n ? gone.stride[0] : 1;
	int64_t		base = 0,
				work = 0;

	if (y->elements == 0)
		return MR_OK;
	/* the innermost gone axis is the loop over rows, a kept one that over columns */
	if (gone.n)
	{
		memmove(gone.dim, gone.dim + 1, (size_t) --gone.n * sizeof(int64_t));
		memmove(gone.stride, gone.stride + 1, (size_t) gone.n * sizeof(int64_t));
	}
	if (!run && kept.n)
	{
		memmove(kept.dim, kept.dim + 1, (size_t) --kept.n * sizeof(int64_t));
		memmove(kept.stride, kept.stride + 1, (size_t) kept.n * sizeof(int64_t));
	}
	for (int64_t o = 0; o < y->elements; o += cols, walk_next(&kept, &base))
		for (int64_t from = 0; from < cols; from += COLUMNS)
		{
			int			n = (int) (cols - from < COLUMNS ? cols - from : COLUMNS);
			int			lanes = run ? LANES : n;
			accumulators acc;
			double		top[COLUMNS] = {0};

			for (int pass = which == nn_reduce_log_sum_exp ? 0 : 1; pass < 2; pass++)
			{
				int			what = pass ? which : nn_reduce_max;
				int64_t		off = base + from;

				for (int j = 0; j < lanes; j++)
					if (as_float)
						acc.f[j] = start_float(what);
					else
						acc.i[j] = start_integer(what, x->dtype);
				do
				{
					/* of a run: rows of LANES, then the rest */
					int64_t		m[2] = {run ? rows / LANES : rows, 1};
					int			w[2] = {lanes, run ? (int) (rows % LANES) : 0};
					int64_t		at = off;

					if (nn_stop(c, &work, (rows + 8) * n * (which == nn_reduce_log_sum_exp ? 8 : 1)))
						return MR_CANCELED;
					if (cells == 0)
						break;
					for (int part = 0; part < 2; part++)
					{
						int64_t		step = run ? LANES : pitch;

						if (x->dtype == nn_float32)
							take_float(what, (const float *) x->data + at, m[part], step, w[part], acc.f, top);
						else if (as_float)
							take_as_float(what, x, at, m[part], step, w[part], acc.f, top);
						else
							take_integer(what, x, at, m[part], step, w[part], acc.i);
						at += m[0] * LANES;
					}
				} while (walk_next(&gone, &off));
				if (run)
					join_lanes(what, as_float, x->dtype, lanes, &acc);
				for (int j = 0; pass == 0 && j < lanes; j++)
					top[j] = isfinite(acc.f[run ? 0 : j]) ? acc.f[run ? 0 : j] : 0;
			}
			store(which, as_float, y, o + from, n, &acc, top, cells);
		}
	return MR_OK;
}

/* ---- ArgMax (op->arg 0), ArgMin (1): i[0] axis, i[1] last index ---- */

mr_code
nn_infer_arg(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_shape	s = {0};
	int64_t		keep;

	NN_TRY(nn_need_type(c, 0, nn_is_number));
	NN_TRY(nn_get_int(c, "axis", 0, &c->p->i[0]));
	NN_TRY(nn_get_int(c, "keepdims", 1, &keep));
	NN_TRY(nn_get_int(c, "select_last_index", 0, &c->p->i[1]));
	NN_TRY(nn_norm_axis(c, &c->p->i[0], x->shape.rank));
	for (int i = 0; i < x->shape.rank; i++)
	{
		if (i != c->p->i[0])
			s.dims[s.rank++] = x->shape.dims[i];
		else if (keep)
			s.dims[s.rank++] = 1;
	}
	if (x->shape.dims[c->p->i[0]] < 1)
		return nn_infer_fail(c, MR_INVALID, "empty axis");
	return nn_set_out(c, 0, nn_int64, &s);
}

mr_code
nn_run_arg(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	int64_t		n = x->shape.dims[c->p->i[0]];
	bool		least = c->op->arg != 0;
	bool		last = c->p->i[1] != 0;
	int64_t		outer,
				inner,
				work = 0;

	nn_around_axis(&x->shape, (int) c->p->i[0], &outer, &inner);
	memset(c->out[0].data, 0, (size_t) c->out[0].elements * sizeof(int64_t));
	for (int64_t o = 0; o < outer; o++)
	{
		int64_t    *best = (int64_t *) c->out[0].data + o * inner;

		for (int64_t i = 1; i < n; i++)
		{
			if (nn_stop(c, &work, inner * 2))
				return MR_CANCELED;
			NN_WITH_NUMBER(x->dtype,
						   const T *p = (const T *) x->data + o * n * inner;

						   for (int64_t k = 0; k < inner; k++)
						   {
							   const T		v = p[i * inner + k];
							   const T		b = p[best[k] * inner + k];

							   if ((least ? v < b : v > b) || (last && v == b))
								   best[k] = i;
						   }
				);
		}
	}
	return MR_OK;
}
