/*
 * ops_select.c
 *	  Operators whose output's size depends on data: NonZero, Compress, Unique,
 *	  NonMaxSuppression.
 *
 * Planned with the most there can be; run() fills what is left with zeros and
 * writes the size to counts[slot] (dynamic.c).  With a constant input the size
 * is known while compiling: params.i[0] = 0 then, else slot + 1.  Unique and
 * NonMaxSuppression sort: their work memory is outputs that the node gets here.
 */
#include <math.h>
#include <string.h>

#include "nn/ops_impl.h"

/* The size found, at most what was planned. */
static void
set_count(nn_run_call *c, int64_t n)
{
	if (c->p->i[0])
		c->counts[(c->p->i[0] - 1) & (NN_MAX_SLOTS - 1)] = n;
}

static double
element(const nn_tensor *t, int64_t i)
{
	switch (t->dtype)
	{
		case nn_float32:
			return ((const float *) t->data)[i];
		case nn_uint8:
		case nn_bool:
			return ((const uint8_t *) t->data)[i];
		case nn_int8:
			return ((const int8_t *) t->data)[i];
		case nn_uint16:
			return ((const uint16_t *) t->data)[i];
		case nn_int16:
			return ((const int16_t *) t->data)[i];
		case nn_int32:
			return ((const int32_t *) t->data)[i];
		case nn_uint32:
			return ((const uint32_t *) t->data)[i];
	}
	return 0;					/* 64 bits: compared as such */
}

static bool
is_zero(const nn_tensor *t, int64_t i)
{
	return t->dtype == nn_int64 || t->dtype == nn_uint64 ? ((const int64_t *) t->data)[i] == 0 : element(t, i) == 0;
}

/* NaN is behind all numbers and equal to itself. */
static int
compare(const nn_tensor *t, int64_t i, int64_t j)
{
	double		a,
				b;

	if (t->dtype == nn_int64)
	{
		int64_t		x = ((const int64_t *) t->data)[i],
					y = ((const int64_t *) t->data)[j];

		return (x > y) - (x < y);
	}
	if (t->dtype == nn_uint64)
	{
		uint64_t	x = ((const uint64_t *) t->data)[i],
					y = ((const uint64_t *) t->data)[j];

		return (x > y) - (x < y);
	}
	a = element(t, i);
	b = element(t, j);
	if (isnan(a) || isnan(b))
		return (isnan(a) != 0) - (isnan(b) != 0);
	return (a > b) - (a < b);
}

/* Outputs up to `want` of them, nameless where the model has none. */
static mr_code
more_outputs(nn_infer_call *c, int want)
{
	nn_node    *n = c->n;
	int		   *out;

	if (n->n_out < want)
	{
		out = nn_heap_alloc(c->g->heap, (size_t) want + 1, sizeof(int));
		if (out == NULL)
			return c->g->st->code;
		for (int k = 0; k < want; k++)
			out[k] = k < n->n_out ? n->out[k] : -1;
		n->out = out;
		n->n_out = c->n_out = want;
	}
	for (int k = 0; k < want; k++)
	{
		const pb_bytes none = {NULL, 0};

		if (n->out[k] >= 0)
			continue;
		n->out[k] = nn_add_value(c->g, none);
		if (n->out[k] < 0)
			return c->g->st->code;
		c->g->values[n->out[k]].producer = (int) (n - c->g->nodes);
	}
	return MR_OK;
}

/* Stable merge sort of order[0, n) with room for as many in temp. */
typedef int (*sort_compare) (const void *arg, int64_t a, int64_t b);

static mr_code
sort(const mr_env *env, int64_t *order, int64_t *temp, int64_t n, int64_t cost, sort_compare cmp, const void *arg)
{
	int64_t		work = 0;

	for (int64_t width = 1; width < n; width *= 2)
	{
		for (int64_t lo = 0; lo < n; lo += 2 * width)
		{
			int64_t		mid = lo + width < n ? lo + width : n;
			int64_t		hi = lo + 2 * width < n ? lo + 2 * width : n;
			int64_t		a = lo,
						b = mid;

			for (int64_t k = lo; k < hi; k++)
			{
				temp[k] = b >= hi || (a < mid && cmp(arg, order[a], order[b]) <= 0) ? order[a++] : order[b++];
				if ((work += cost + 16) >= NN_STOP_WORK)
				{
					work = 0;
					if (mr_interrupted(env))
						return MR_CANCELED;
				}
			}
		}
		memcpy(order, temp, (size_t) n * sizeof(*order));
	}
	return MR_OK;
}

/* ---- NonZero ---- */

mr_code
nn_infer_nonzero(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_shape	s = {2, {x->shape.rank, x->elements}};
	int			slot;

	if (x->data)
	{
		nn_tensor	t = {x->dtype, x->shape, x->elements, x->data};

		for (int64_t i = 0; i < x->elements; i++)
			s.dims[1] -= is_zero(&t, i);
		return nn_set_out(c, 0, nn_int64, &s);
	}
	NN_TRY(nn_new_slot(c, &slot));
	c->p->i[0] = slot + 1;
	NN_TRY(nn_set_out(c, 0, nn_int64, &s));
	nn_set_dynamic(c, 0, 1, slot);
	return MR_OK;
}

mr_code
nn_run_nonzero(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	int64_t    *y = c->out[0].data;
	int64_t		room = c->out[0].shape.dims[1];
	int64_t		index[NN_MAX_RANK] = {0};
	int64_t		n = 0;
	int			rank = x->shape.rank;

	for (int64_t i = 0; i < x->elements; i++)
	{
		if (i % (NN_STOP_WORK / 8) == 0 && i && mr_interrupted(c->env))
			return MR_CANCELED;
		if (!is_zero(x, i) && n < room)
		{
			for (int k = 0; k < rank; k++)
				y[k * room + n] = index[k];
			n++;
		}
		for (int k = rank - 1; k >= 0; k--)
		{
			if (++index[k] < x->shape.dims[k])
				break;
			index[k] = 0;
		}
	}
	for (int k = 0; k < rank && n < room; k++)
		memset(y + k * room + n, 0, (size_t) (room - n) * sizeof(*y));
	set_count(c, n);
	return MR_OK;
}

/* ---- Compress: i[1] = axis, -1: flattened ---- */

mr_code
nn_infer_compress(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_value   *cond = nn_in(c, 1);
	const nn_attr *a = nn_find_attr(c->n, "axis");
	nn_shape	s = x->shape;
	int64_t		axis,
				n;
	int			slot;

	if (cond->dtype != nn_bool || cond->shape.rank != 1)
		return nn_infer_fail(c, MR_INVALID, "condition must be a list of booleans");
	NN_TRY(nn_get_int(c, "axis", 0, &axis));
	if (a)
		NN_TRY(nn_norm_axis(c, &axis, s.rank));
	else
	{
		s.rank = 1;
		s.dims[0] = x->elements;
		axis = 0;
	}
	c->p->i[1] = a ? axis : -1;
	n = cond->elements < s.dims[axis] ? cond->elements : s.dims[axis];
	if (cond->data)
	{
		s.dims[axis] = 0;
		for (int64_t i = 0; i < n; i++)
			s.dims[axis] += ((uint8_t *) cond->data)[i] != 0;
		return nn_set_out(c, 0, x->dtype, &s);
	}
	NN_TRY(nn_new_slot(c, &slot));
	c->p->i[0] = slot + 1;
	s.dims[axis] = n;
	NN_TRY(nn_set_out(c, 0, x->dtype, &s));
	nn_set_dynamic(c, 0, (int) axis, slot);
	return MR_OK;
}

mr_code
nn_run_compress(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	const nn_tensor *cond = &c->in[1];
	nn_tensor  *y = &c->out[0];
	int			axis = (int) c->p->i[1];
	size_t		size = nn_dtype_size(x->dtype);
	int64_t		outer = 1,
				inner = 1;
	int64_t		dim = axis < 0 ? x->elements : x->shape.dims[axis];
	int64_t		room = y->shape.dims[axis < 0 ? 0 : axis];
	int64_t		n = 0,
				work = 0;

	for (int i = 0; i < axis; i++)
		outer *= x->shape.dims[i];
	for (int i = axis + 1; axis >= 0 && i < x->shape.rank; i++)
		inner *= x->shape.dims[i];
	memset(y->data, 0, (size_t) y->elements * size);
	for (int64_t i = 0; i < dim && i < cond->elements && n < room; i++)
	{
		if (!((const uint8_t *) cond->data)[i])
			continue;
		for (int64_t o = 0; inner && o < outer; o++)
			memcpy((char *) y->data + (size_t) ((o * room + n) * inner) * size,
				   (const char *) x->data + (size_t) ((o * dim + i) * inner) * size, (size_t) inner * size);
		n++;
		if ((work += outer * (inner + 16)) >= NN_STOP_WORK)
		{
			work = 0;
			if (mr_interrupted(c->env))
				return MR_CANCELED;
		}
	}
	set_count(c, n);
	return MR_OK;
}

/* ---- Unique: i[1] = axis, -1: flattened; i[2] = sorted ---- */

mr_code
nn_infer_unique(nn_infer_call *c)
{
	nn_value   *x;
	const nn_attr *a = nn_find_attr(c->n, "axis");
	nn_shape	s,
				list = {1, {0}};
	int64_t		axis;
	int			slot;

	NN_TRY(more_outputs(c, 4));
	x = nn_in(c, 0);
	s = x->shape;
	NN_TRY(nn_get_int(c, "sorted", 1, &c->p->i[2]));
	NN_TRY(nn_get_int(c, "axis", 0, &axis));
	if (a)
		NN_TRY(nn_norm_axis(c, &axis, s.rank));
	else
	{
		s.rank = 1;
		s.dims[0] = x->elements;
		axis = 0;
	}
	c->p->i[1] = a ? axis : -1;
	list.dims[0] = s.dims[axis];
	NN_TRY(nn_new_slot(c, &slot));
	c->p->i[0] = slot + 1;
	NN_TRY(nn_set_out(c, 0, x->dtype, &s));
	for (int k = 1; k < 4; k++)
		NN_TRY(nn_set_out(c, k, nn_int64, &list));
	nn_set_dynamic(c, 0, (int) axis, slot);
	nn_set_dynamic(c, 1, 0, slot);
	nn_set_dynamic(c, 3, 0, slot);
	return MR_OK;
}

typedef struct slices
{
	const nn_tensor *x;
	int64_t		outer,
				dim,
				inner;
} slices;

static int
compare_slices(const void *arg, int64_t a, int64_t b)
{
	const slices *s = arg;
	int			r = 0;

	for (int64_t o = 0; o < s->outer && r == 0; o++)
		for (int64_t i = 0; i < s->inner && r == 0; i++)
			r = compare(s->x, (o * s->dim + a) * s->inner + i, (o * s->dim + b) * s->inner + i);
	return r;
}

/* Number the groups by where they first occur instead of by value. */
static void
by_occurrence(int64_t n, int64_t *first, int64_t *inverse, int64_t *count)
{
	int64_t		next = 0;

	for (int64_t i = 0; i < n; i++)
		if (first[inverse[i]] == i)
			count[inverse[i]] = next++;
	for (int64_t i = 0; i < n; i++)
		inverse[i] = count[inverse[i]];
	memset(count, 0, (size_t) n * sizeof(*count));
	for (int64_t i = n - 1; i >= 0; i--)
	{
		count[inverse[i]]++;
		first[inverse[i]] = i;
	}
}

mr_code
nn_run_unique(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	slices		s = {x, 1, x->elements, 1};
	int			axis = (int) c->p->i[1];
	size_t		size = nn_dtype_size(x->dtype);
	int64_t    *first,
			   *inverse,
			   *count;
	int64_t		groups = 0;

	if (c->n_out < 4)
		return mr_fail(c->st, MR_INTERNAL, "Unique has no work memory");
	first = c->out[1].data;
	inverse = c->out[2].data;
	count = c->out[3].data;
	if (axis >= 0)
	{
		s.dim = x->shape.dims[axis];
		for (int i = 0; i < axis; i++)
			s.outer *= x->shape.dims[i];
		for (int i = axis + 1; i < x->shape.rank; i++)
			s.inner *= x->shape.dims[i];
	}
	for (int64_t i = 0; i < s.dim; i++)
		first[i] = i;
	NN_TRY(sort(c->env, first, count, s.dim, s.outer * s.inner < NN_STOP_WORK ? s.outer * s.inner : NN_STOP_WORK,
				compare_slices, &s));
	for (int64_t i = 0; i < s.dim; i++)
	{
		int64_t		at = first[i];

		/* stable: a group begins with its first occurrence */
		if (groups == 0 || compare_slices(&s, first[groups - 1], at) != 0)
		{
			count[groups] = 0;
			first[groups++] = at;
		}
		count[groups - 1]++;
		inverse[at] = groups - 1;
	}
	memset(first + groups, 0, (size_t) (s.dim - groups) * sizeof(*first));
	memset(count + groups, 0, (size_t) (s.dim - groups) * sizeof(*count));
	if (!c->p->i[2])
		by_occurrence(s.dim, first, inverse, count);
	if (c->out[0].elements)
		memset(c->out[0].data, 0, (size_t) c->out[0].elements * size);
	for (int64_t o = 0; o < s.outer; o++)
		for (int64_t k = 0; s.inner && k < groups; k++)
			memcpy((char *) c->out[0].data + (size_t) ((o * s.dim + k) * s.inner) * size,
				   (const char *) x->data + (size_t) ((o * s.dim + first[k]) * s.inner) * size, (size_t) s.inner * size);
	set_count(c, groups);
	return MR_OK;
}

/* ---- NonMaxSuppression: i[1] = boxes are centre and size ---- */

/* Most boxes of a class: input 2, absent 0. */
static int64_t
most_boxes(const nn_tensor *t, int64_t boxes)
{
	int64_t		n = t->data == NULL ? 0 : t->dtype == nn_int64 ? *(const int64_t *) t->data : (int64_t) element(t, 0);

	return n < 0 ? 0 : n > boxes ? boxes : n;
}

mr_code
nn_infer_nms(nn_infer_call *c)
{
	nn_value   *boxes,
			   *scores;
	nn_shape	s = {2, {0, 3}},
				list = {1, {0}};
	int64_t		each;
	int			slot;

	NN_TRY(more_outputs(c, 3));
	boxes = nn_in(c, 0);
	scores = nn_in(c, 1);
	NN_TRY(nn_get_int(c, "center_point_box", 0, &c->p->i[1]));
	if (boxes->dtype != nn_float32 || scores->dtype != nn_float32 || boxes->shape.rank != 3 || scores->shape.rank != 3 ||
		boxes->shape.dims[2] != 4 || boxes->shape.dims[0] != scores->shape.dims[0] || boxes->shape.dims[1] != scores->shape.dims[2])
		return nn_infer_fail(c, MR_INVALID, "boxes must be N x S x 4 and scores N x C x S floats");
	for (int k = 2; k < c->n_in; k++)
		if (nn_in(c, k) && (nn_in(c, k)->elements != 1 || nn_in(c, k)->dtype != (k == 2 ? nn_int64 : nn_float32)))
			return nn_infer_fail(c, MR_INVALID, "input %d must be one number", k);
	each = boxes->shape.dims[1];
	if (nn_in(c, 2) == NULL || nn_in(c, 2)->data)
	{
		nn_tensor	t = {nn_int64, {0}, 1, nn_in(c, 2) ? nn_in(c, 2)->data : NULL};

		each = most_boxes(&t, each);
	}
	if (__builtin_mul_overflow(scores->shape.dims[0] * scores->shape.dims[1], each, &s.dims[0]))
		return nn_infer_fail(c, MR_LIMIT, "too many boxes");
	list.dims[0] = boxes->shape.dims[1];
	NN_TRY(nn_new_slot(c, &slot));
	c->p->i[0] = slot + 1;
	NN_TRY(nn_set_out(c, 0, nn_int64, &s));
	NN_TRY(nn_set_out(c, 1, nn_int64, &list));
	NN_TRY(nn_set_out(c, 2, nn_int64, &list));
	nn_set_dynamic(c, 0, 0, slot);
	return MR_OK;
}

static int
compare_scores(const void *arg, int64_t a, int64_t b)
{
	const float *score = arg;

	return (score[a] < score[b]) - (score[a] > score[b]);
}

/* Corners in order: y0, x0, y1, x1. */
static void
corners(const float *b, bool centre, float out[4])
{
	if (centre)
	{
		out[0] = b[1] - b[3] / 2;
		out[1] = b[0] - b[2] / 2;
		out[2] = b[1] + b[3] / 2;
		out[3] = b[0] + b[2] / 2;
		return;
	}
	for (int i = 0; i < 2; i++)
	{
		out[i] = b[i] < b[i + 2] ? b[i] : b[i + 2];
		out[i + 2] = b[i] < b[i + 2] ? b[i + 2] : b[i];
	}
}

static float
overlap(const float a[4], const float b[4])
{
	float		h = fminf(a[2], b[2]) - fmaxf(a[0], b[0]);
	float		w = fminf(a[3], b[3]) - fmaxf(a[1], b[1]);
	float		both = h > 0 && w > 0 ? h * w : 0;
	float		sum = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]);

	return both > 0 && sum - both > 0 ? both / (sum - both) : 0;
}

mr_code
nn_run_nms(nn_run_call *c)
{
	static const nn_tensor absent = {nn_none, {0}, 0, NULL};
	const nn_tensor *boxes = &c->in[0];
	const nn_tensor *scores = &c->in[1];
	int64_t		spatial = boxes->shape.dims[1];
	int64_t		classes = scores->shape.dims[1];
	int64_t		each = most_boxes(c->n_in > 2 ? &c->in[2] : &absent, spatial);
	float		iou = c->n_in > 3 && c->in[3].data ? *(const float *) c->in[3].data : 0;
	float		least = c->n_in > 4 && c->in[4].data ? *(const float *) c->in[4].data : -INFINITY;
	int64_t		room = c->out[0].shape.dims[0];
	int64_t    *y = c->out[0].data;
	int64_t		n = 0;
	int64_t		work = 0;

	if (c->n_out < 3)
		return mr_fail(c->st, MR_INTERNAL, "NonMaxSuppression has no work memory");
	for (int64_t k = 0; k < boxes->shape.dims[0] * classes; k++)
	{
		const float *box = (const float *) boxes->data + k / classes * spatial * 4;
		const float *score = (const float *) scores->data + k * spatial;
		int64_t    *order = c->out[1].data;
		int64_t		candidates = 0,
					start = n;

		for (int64_t i = 0; i < spatial; i++)
			if (score[i] > least)
				order[candidates++] = i;
		NN_TRY(sort(c->env, order, c->out[2].data, candidates, 0, compare_scores, score));
		for (int64_t i = 0; i < candidates && n - start < each && n < room; i++)
		{
			float		mine[4],
						other[4];
			bool		keep = true;

			corners(box + order[i] * 4, c->p->i[1] != 0, mine);
			for (int64_t j = start; j < n && keep; j++)
			{
				corners(box + y[3 * j + 2] * 4, c->p->i[1] != 0, other);
				keep = overlap(mine, other) <= iou;
				work++;
			}
			if (keep)
			{
				y[3 * n] = k / classes;
				y[3 * n + 1] = k % classes;
				y[3 * n + 2] = order[i];
				n++;
			}
			if (work >= NN_STOP_WORK / 32)
			{
				work = 0;
				if (mr_interrupted(c->env))
					return MR_CANCELED;
			}
		}
		if ((work += spatial / 32 + 1) >= NN_STOP_WORK / 32)
		{
			work = 0;
			if (mr_interrupted(c->env))
				return MR_CANCELED;
		}
	}
	memset(y + 3 * n, 0, (size_t) (room - n) * 3 * sizeof(*y));
	set_count(c, n);
	return MR_OK;
}
