/*
 * ops_linalg.c
 *	  Einsum and Det.
 *
 * Einsum: i[0] letters, i[1] how many of them (the first) are the result's, i[2..]
 * a letter per dimension of each operand, eight bits each, innermost lowest.
 * Letters of the ellipsis are numbered like others.  Each result is a sum of
 * products over the letters that it lacks.
 */
#include <math.h>

#include "nn/ops_util.h"

#define MAX_LETTERS 16
#define MAX_OPERANDS 8
#define MAX_MATRIX 64			/* of Det */

/* ---- Einsum ---- */

typedef struct equation
{
	const char *p,
			   *end;
	int			n;				/* letters, the ellipsis' numbers included */
	int			n_dots;			/* dimensions of the ellipsis */
	int			dots[NN_MAX_RANK];	/* letters of the ellipsis, innermost first */
	char		letter[MAX_LETTERS];
	int64_t		dim[MAX_LETTERS];
	int			rank[MAX_OPERANDS];
	int			at[MAX_OPERANDS][NN_MAX_RANK];	/* letter of each dimension, outermost first */
} equation;

static int
find_letter(equation *e, char c)
{
	for (int i = 0; i < e->n; i++)
		if (e->letter[i] == c)
			return i;
	if (e->n == MAX_LETTERS)
		return -1;
	e->letter[e->n] = c;
	e->dim[e->n] = 1;
	return e->n++;
}

/* Dimension d of the ellipsis, from the innermost: a letter of its own. */
static int
find_dot(equation *e, int d)
{
	while (e->n_dots <= d)
	{
		if (e->n == MAX_LETTERS)
			return -1;
		e->letter[e->n] = '\0';
		e->dim[e->n] = 1;
		e->dots[e->n_dots++] = e->n++;
	}
	return e->dots[d];
}

/* One term, up to a comma or arrow: letters into at[], its rank returned; dots: how
 * many dimensions its ellipsis stands for.  -1: malformed. */
static int
read_term(equation *e, int dots, int at[NN_MAX_RANK])
{
	int			n = 0;

	for (; e->p < e->end && *e->p != ',' && *e->p != '-'; e->p++)
	{
		char		c = *e->p;

		if (c == ' ')
			continue;
		if (c == '.')
		{
			if (e->end - e->p < 3 || e->p[1] != '.' || e->p[2] != '.' || n + dots > NN_MAX_RANK)
				return -1;
			e->p += 2;
			for (int d = dots - 1; d >= 0; d--)
				at[n++] = find_dot(e, d);
		}
		else if (((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) && n < NN_MAX_RANK)
			at[n++] = find_letter(e, c);
		else
			return -1;
		if (n && at[n - 1] < 0)
			return -1;
	}
	return n;
}

/* Letters of a term without its ellipsis. */
static int
count_letters(const char *p, const char *end)
{
	int			n = 0;

	for (; p < end && *p != ',' && *p != '-'; p++)
		n += (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z');
	return n;
}

static mr_code
read_operands(nn_infer_call *c, equation *e)
{
	for (int k = 0; k < c->n_in; k++)
	{
		const nn_shape *s = &nn_in(c, k)->shape;
		int			dots = s->rank - count_letters(e->p, e->end);

		e->rank[k] = read_term(e, dots < 0 ? 0 : dots, e->at[k]);
		if (e->rank[k] != s->rank)
			return nn_infer_fail(c, MR_INVALID, "term %d of the equation does not fit an input of %d dimensions", k, s->rank);
		for (int i = 0; i < s->rank; i++)
		{
			int64_t    *d = &e->dim[e->at[k][i]];

			if (*d != s->dims[i] && *d != 1 && s->dims[i] != 1)
				return nn_infer_fail(c, MR_INVALID, "dimension %d of input %d is %lld, not %lld", i, k,
									 (long long) s->dims[i], (long long) *d);
			*d = *d == 1 ? s->dims[i] : *d;
		}
		if (k + 1 < c->n_in ? e->p == e->end || *e->p != ',' : e->p < e->end && *e->p == ',')
			return nn_infer_fail(c, MR_INVALID, "the equation does not have %d terms", c->n_in);
		e->p += k + 1 < c->n_in;
	}
	return MR_OK;
}

/* Without an arrow: the ellipsis, then letters that occur once, in order. */
static int
implied_result(const nn_infer_call *c, const equation *e, int result[NN_MAX_RANK])
{
	int			n = 0;

	for (int d = e->n_dots - 1; d >= 0; d--)
		result[n++] = e->dots[d];
	for (int ch = 'A'; ch <= 'z'; ch++)
		for (int i = 0; i < e->n; i++)
		{
			int			times = 0;

			if (e->letter[i] != ch)
				continue;
			for (int k = 0; k < c->n_in; k++)
				for (int j = 0; j < e->rank[k]; j++)
					times += e->at[k][j] == i;
			if (times == 1 && n < NN_MAX_RANK)
				result[n++] = i;
		}
	return n;
}

mr_code
nn_infer_einsum(nn_infer_call *c)
{
	const nn_attr *a = nn_find_attr(c->n, "equation");
	equation	e;
	int			result[NN_MAX_RANK];
	int			n,
				number[MAX_LETTERS];	/* of letters: the result's first */
	int			next;
	nn_shape	s = {0};

	memset(&e, 0, sizeof(e));
	if (a == NULL || a->type != nn_attr_string || c->n_in > MAX_OPERANDS)
		return nn_infer_fail(c, MR_UNSUPPORTED, "without an equation, or more than %d inputs", MAX_OPERANDS);
	for (int k = 0; k < c->n_in; k++)
	{
		if (nn_in(c, k) == NULL || nn_in(c, k)->dtype != nn_in(c, 0)->dtype)
			return nn_infer_fail(c, MR_INVALID, "inputs differ in type");
		NN_TRY(nn_need_type(c, k, nn_is_number));
	}
	e.p = (const char *) a->s.p;
	e.end = e.p + a->s.len;
	NN_TRY(read_operands(c, &e));
	if (e.end - e.p >= 2 && e.p[0] == '-' && e.p[1] == '>')
	{
		e.p += 2;
		n = read_term(&e, e.n_dots, result);
	}
	else
		n = implied_result(c, &e, result);
	if (n < 0 || e.p != e.end)
		return nn_infer_fail(c, MR_INVALID, "the equation is malformed");
	memset(number, -1, sizeof(number));
	for (next = 0; next < n; next++)
	{
		if (number[result[next]] >= 0)
			return nn_infer_fail(c, MR_INVALID, "the result repeats a letter");
		number[result[next]] = next;
		s.dims[s.rank++] = e.dim[result[next]];
	}
	for (int i = 0; i < e.n; i++)
		if (number[i] < 0)
			number[i] = next++;
	c->p->i[0] = e.n;
	c->p->i[1] = n;
	for (int k = 0; k < c->n_in; k++)
		for (int i = 0; i < e.rank[k]; i++)
			c->p->i[2 + k] |= (int64_t) number[e.at[k][i]] << 8 * (e.rank[k] - 1 - i);
	return nn_set_out(c, 0, nn_in(c, 0)->dtype, &s);
}

/* Sum over the letters from `first` on of the product of all operands. */
typedef struct contraction
{
	int			letters,
				kept;
	int64_t		dim[MAX_LETTERS];
	int64_t		stride[MAX_OPERANDS][MAX_LETTERS];
} contraction;

static void
start_contraction(const nn_run_call *c, contraction *w)
{
	memset(w, 0, sizeof(*w));
	w->letters = (int) c->p->i[0];
	w->kept = (int) c->p->i[1];
	for (int i = 0; i < w->letters; i++)
		w->dim[i] = 1;
	for (int k = 0; k < c->n_in; k++)
	{
		const nn_shape *s = &c->in[k].shape;
		int64_t		stride = 1;

		for (int i = s->rank - 1; i >= 0; i--)
		{
			int			l = (int) (c->p->i[2 + k] >> 8 * (s->rank - 1 - i) & 15);

			if (s->dims[i] != 1)
			{
				w->dim[l] = s->dims[i];
				w->stride[k][l] += stride;	/* a repeated letter: a diagonal */
			}
			stride *= s->dims[i];
		}
	}
}

/* Advance letters [from, to), the last fastest; false when all are through. */
static bool
next_letters(const contraction *w, int n_in, int from, int to, int64_t *index, int64_t *off)
{
	for (int l = to - 1; l >= from; l--)
	{
		for (int k = 0; k < n_in; k++)
			off[k] += w->stride[k][l];
		if (++index[l] < w->dim[l])
			return true;
		for (int k = 0; k < n_in; k++)
			off[k] -= w->stride[k][l] * w->dim[l];
		index[l] = 0;
	}
	return false;
}

/* Two float operands, one of which walks along the result's last letter while the
 * other stands: rows of the result are sums of scaled rows, as in a product of
 * matrices. */
static bool
by_rows(const nn_run_call *c, const contraction *w)
{
	int			l = w->kept - 1;

	return c->out[0].dtype == nn_float32 && c->n_in == 2 && l >= 0 &&
		((w->stride[0][l] == 0 && w->stride[1][l] == 1) || (w->stride[0][l] == 1 && w->stride[1][l] == 0));
}

static mr_code
contract_rows(nn_run_call *c, const contraction *w)
{
	int64_t		index[MAX_LETTERS] = {0};
	int64_t		off[2] = {0};
	int			last = w->kept - 1;
	int			still = w->stride[0][last] == 0 ? 0 : 1;
	int64_t		cols = w->dim[last];
	int64_t		work = 0;

	for (int64_t o = 0; o < c->out[0].elements; o += cols)
	{
		float	   *y = (float *) c->out[0].data + o;

		memset(y, 0, (size_t) cols * sizeof(float));
		do
		{
			const float f = ((const float *) c->in[still].data)[off[still]];
			const float *x = (const float *) c->in[!still].data + off[!still];

			if (nn_stop(c, &work, cols))
				return MR_CANCELED;
			for (int64_t i = 0; i < cols; i++)
				y[i] += f * x[i];
		} while (next_letters(w, 2, w->kept, w->letters, index, off));
		next_letters(w, 2, 0, last, index, off);
	}
	return MR_OK;
}

/* Two float operands otherwise: each result is a sum of products of strided rows. */
static float
dot(const float *a, int64_t sa, const float *b, int64_t sb, int64_t n)
{
	float		sum[8] = {0};
	int64_t		i = 0;

	if (sa == 1 && sb == 1)
		for (; i + 8 <= n; i += 8)
			for (int k = 0; k < 8; k++)
				sum[k] += a[i + k] * b[i + k];
	for (; i < n; i++)
		sum[0] += a[i * sa] * b[i * sb];
	return (sum[0] + sum[1]) + (sum[2] + sum[3]) + (sum[4] + sum[5]) + (sum[6] + sum[7]);
}

mr_code
nn_run_einsum(nn_run_call *c)
{
	contraction w;
	int64_t		index[MAX_LETTERS] = {0};
	int64_t		off[MAX_OPERANDS] = {0};
	int64_t		run,
				empty = 1,
				work = 0;
	int			last;			/* the innermost summed letter is the inner loop */

	start_contraction(c, &w);
	last = w.letters > w.kept ? w.letters - 1 : -1;
	run = last < 0 ? 1 : w.dim[last];
	for (int i = 0; i < w.letters; i++)
		empty *= w.dim[i];
	if (empty == 0)
		memset(c->out[0].data, 0, (size_t) c->out[0].elements * nn_dtype_size(c->out[0].dtype));
	else if (by_rows(c, &w))
		return contract_rows(c, &w);
	for (int64_t o = 0; empty && o < c->out[0].elements; o++)
	{
		double		sum = 0;
		uint64_t	whole = 0;

		do
		{
			if (nn_stop(c, &work, (run + 4) * c->n_in))
				return MR_CANCELED;
			if (c->out[0].dtype == nn_float32 && c->n_in == 2)
			{
				sum += dot((const float *) c->in[0].data + off[0], last < 0 ? 0 : w.stride[0][last],
						   (const float *) c->in[1].data + off[1], last < 0 ? 0 : w.stride[1][last], run);
				continue;
			}
			NN_WITH_NUMBER(c->out[0].dtype,
						   for (int64_t i = 0; i < run; i++)
						   {
							   T			v = 1;

							   for (int k = 0; k < c->n_in; k++)
							   {
								   const T		f = ((const T *) c->in[k].data)[off[k] + (last < 0 ? 0 : i * w.stride[k][last])];

								   v = NN_WRAP(v, *, f);
							   }
							   if ((T) 0.5f != 0)
								   sum += (double) v;
							   else
								   whole += (uint64_t) v;
						   }
				);
		} while (next_letters(&w, c->n_in, w.kept, last < 0 ? w.kept : last, index, off));
		NN_WITH_NUMBER(c->out[0].dtype, ((T *) c->out[0].data)[o] = (T) 0.5f != 0 ? (T) sum : (T) whole;);
		next_letters(&w, c->n_in, 0, w.kept, index, off);
	}
	return MR_OK;
}

/* ---- Det: of the last two dimensions ---- */

mr_code
nn_infer_det(nn_infer_call *c)
{
	nn_shape	s = nn_in(c, 0)->shape;

	NN_TRY(nn_need_float(c, 0));
	if (s.rank < 2 || s.dims[s.rank - 1] != s.dims[s.rank - 2] || s.dims[s.rank - 1] > MAX_MATRIX)
		return nn_infer_fail(c, MR_UNSUPPORTED, "the matrices must be square, of at most %d rows", MAX_MATRIX);
	s.rank -= 2;
	return nn_set_out(c, 0, nn_float32, &s);
}

/* Gauss elimination with pivots. */
static double
determinant(const float *x, int n)
{
	double		a[MAX_MATRIX][MAX_MATRIX];
	double		det = 1;

	for (int i = 0; i < n; i++)
		for (int j = 0; j < n; j++)
			a[i][j] = x[i * n + j];
	for (int k = 0; k < n; k++)
	{
		int			pivot = k;

		for (int i = k + 1; i < n; i++)
			if (fabs(a[i][k]) > fabs(a[pivot][k]))
				pivot = i;
		if (a[pivot][k] == 0)
			return 0;
		det *= pivot == k ? a[k][k] : -a[pivot][k];
		for (int j = k; j < n && pivot != k; j++)
		{
			double		t = a[k][j];

			a[k][j] = a[pivot][j];
			a[pivot][j] = t;
		}
		for (int i = k + 1; i < n; i++)
			for (int j = n - 1; j >= k; j--)
				a[i][j] -= a[i][k] / a[k][k] * a[k][j];
	}
	return det;
}

mr_code
nn_run_det(nn_run_call *c)
{
	const nn_shape *s = &c->in[0].shape;
	int			n = (int) s->dims[s->rank - 1];
	int64_t		work = 0;

	for (int64_t o = 0; o < c->out[0].elements; o++)
	{
		if (nn_stop(c, &work, (int64_t) n * n * n))
			return MR_CANCELED;
		((float *) c->out[0].data)[o] = (float) determinant((const float *) c->in[0].data + o * n * n, n);
	}
	return MR_OK;
}
