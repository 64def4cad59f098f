/*
 * ops_move.c
 *	  Operators that move elements: transpose, slice, concat, pad, gather, ...
 *
 * Transpose, Slice and Expand are one strided copy (nn_copy_param); the others
 * copy runs of contiguous elements.  All work on any element size.
 */
#include <stdio.h>
#include <string.h>

#include "nn/ops_util.h"

/* Strides in elements of a row-major shape. */
static void
row_major(const nn_shape *s, int64_t stride[NN_MAX_RANK])
{
	int64_t		n = 1;

	for (int i = s->rank - 1; i >= 0; i--)
	{
		stride[i] = n;
		n *= s->dims[i];
	}
}

static mr_code
strided_copy(nn_run_call *c)
{
	const nn_tensor *y = &c->out[0];
	const int64_t *stride = c->p->i + nn_c_stride;
	size_t		size = nn_dtype_size(y->dtype);
	const char *src = (const char *) c->in[0].data;
	char	   *dst = y->data;
	int64_t		index[NN_MAX_RANK] = {0};
	int64_t		off = c->p->i[nn_c_start];
	int			rank = y->shape.rank;
	int64_t		cols = rank ? y->shape.dims[rank - 1] : 1;
	int64_t		step = rank ? stride[rank - 1] : 1;
	int64_t		work = 0;

	if (y->elements == 0)
		return MR_OK;
	for (;;)
	{
		int			i;

		if (step == 1)
			memcpy(dst, src + (size_t) off * size, (size_t) cols * size);
		else if (size == 4)
			for (int64_t j = 0; j < cols; j++)
				((uint32_t *) dst)[j] = ((const uint32_t *) src)[off + j * step];
		else
			for (int64_t j = 0; j < cols; j++)
				memcpy(dst + (size_t) j * size, src + (size_t) (off + j * step) * size, size);
		dst += (size_t) cols * size;
		if ((work += cols) >= NN_STOP_WORK)
		{
			work = 0;
			if (mr_interrupted(c->env))
				return MR_CANCELED;
		}
		for (i = rank - 2; i >= 0; i--)
		{
			off += stride[i];
			if (++index[i] < y->shape.dims[i])
				break;
			off -= stride[i] * y->shape.dims[i];
			index[i] = 0;
		}
		if (i < 0)
			return MR_OK;
	}
}

mr_code
nn_infer_transpose(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_shape	s = x->shape;
	int64_t		perm[NN_MAX_RANK];
	int64_t		stride[NN_MAX_RANK];
	bool		seen[NN_MAX_RANK] = {false};
	int			n;

	NN_TRY(nn_get_ints(c, "perm", NN_MAX_RANK, perm, &n));
	if (n >= 0 && n != s.rank)
		return nn_infer_fail(c, MR_INVALID, "perm has %d entries for %d dimensions", n, s.rank);
	row_major(&x->shape, stride);
	for (int i = 0; i < s.rank; i++)
	{
		int64_t		from = n < 0 ? s.rank - 1 - i : perm[i];

		if (from < 0 || from >= s.rank || seen[from])
			return nn_infer_fail(c, MR_INVALID, "perm is not a permutation");
		seen[from] = true;
		s.dims[i] = x->shape.dims[from];
		c->p->i[nn_c_stride + i] = stride[from];
	}
	return nn_set_out(c, 0, x->dtype, &s);
}

mr_code
nn_run_transpose(nn_run_call *c)
{
	return strided_copy(c);
}

/* starts, ends, axes, steps: attributes before opset 10, inputs since. */
mr_code
nn_infer_slice(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_shape	s = x->shape;
	int64_t		start[NN_MAX_RANK],
				end[NN_MAX_RANK],
				axes[NN_MAX_RANK],
				steps[NN_MAX_RANK];
	int64_t		stride[NN_MAX_RANK];
	bool		seen[NN_MAX_RANK] = {false};
	int			n,
				n_end,
				n_axes,
				n_steps = -1;

	if (c->n->opset < 10)
	{
		NN_TRY(nn_get_ints(c, "starts", NN_MAX_RANK, start, &n));
		NN_TRY(nn_get_ints(c, "ends", NN_MAX_RANK, end, &n_end));
		NN_TRY(nn_get_ints(c, "axes", NN_MAX_RANK, axes, &n_axes));
	}
	else
	{
		NN_TRY(nn_const_ints(c, 1, NN_MAX_RANK, start, &n));
		NN_TRY(nn_const_ints(c, 2, NN_MAX_RANK, end, &n_end));
		NN_TRY(nn_const_ints(c, 3, NN_MAX_RANK, axes, &n_axes));
		NN_TRY(nn_const_ints(c, 4, NN_MAX_RANK, steps, &n_steps));
	}
	if (n < 0 || n != n_end || (n_axes >= 0 && n_axes != n) || (n_steps >= 0 && n_steps != n) || n > s.rank)
		return nn_infer_fail(c, MR_INVALID, "starts, ends, axes and steps do not match");
	row_major(&x->shape, stride);
	memcpy(c->p->i + nn_c_stride, stride, sizeof(stride));
	for (int i = 0; i < n; i++)
	{
		int64_t		axis = n_axes < 0 ? i : axes[i];
		int64_t		step = n_steps < 0 ? 1 : steps[i];
		int64_t		dim,
					from = start[i],
					to = end[i];

		NN_TRY(nn_norm_axis(c, &axis, s.rank));
		if (step == 0 || step < -NN_MAX_DIM || seen[axis])
			return nn_infer_fail(c, MR_INVALID, "bad step or axis");
		if (step > NN_MAX_DIM)
			step = NN_MAX_DIM;
		seen[axis] = true;
		dim = x->shape.dims[axis];
		/* numpy's rules; INT64_MIN and INT64_MAX mean "to the end" */
		from = from < -dim ? -dim : from > dim ? dim : from;
		to = to < -dim - 1 ? -dim - 1 : to > dim ? dim : to;
		from += from < 0 ? dim : 0;
		to += to < 0 ? dim : 0;
		if (step > 0)
			s.dims[axis] = from < to ? (to - from + step - 1) / step : 0;
		else
		{
			from = from >= dim ? dim - 1 : from;
			if (end[i] < -dim)
				to = -1;
			s.dims[axis] = from > to ? (from - to - step - 1) / -step : 0;
		}
		if (s.dims[axis] > 0)
			c->p->i[nn_c_start] += from * stride[axis];
		c->p->i[nn_c_stride + axis] *= step;
		/* for the planner's shortcut: 16.. starts, 24.. steps */
		c->p->i[16 + axis] = from;
		c->p->i[24 + axis] = step;
	}
	for (int i = 0; i < s.rank; i++)
		if (!seen[i])
			c->p->i[24 + i] = 1;
	return nn_set_out(c, 0, x->dtype, &s);
}

mr_code
nn_run_slice(nn_run_call *c)
{
	return strided_copy(c);
}

mr_code
nn_infer_expand(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_shape	s = {0};
	int64_t		stride[NN_MAX_RANK];

	NN_TRY(nn_const_ints(c, 1, NN_MAX_RANK, s.dims, &s.rank));
	NN_TRY(nn_broadcast(c, &x->shape, &s, &s));
	row_major(&x->shape, stride);
	for (int i = 0; i < s.rank; i++)
	{
		int			j = i - (s.rank - x->shape.rank);

		c->p->i[nn_c_stride + i] = j < 0 || x->shape.dims[j] == 1 ? 0 : stride[j];
	}
	return nn_set_out(c, 0, x->dtype, &s);
}

mr_code
nn_run_expand(nn_run_call *c)
{
	return strided_copy(c);
}

/* Elements before and after an axis. */
static void
around_axis(const nn_shape *s, int axis, int64_t *outer, int64_t *inner)
{
	*outer = *inner = 1;
	for (int i = 0; i < axis; i++)
		*outer *= s->dims[i];
	for (int i = axis + 1; i < s->rank; i++)
		*inner *= s->dims[i];
}

/* Concat: i[0] = axis. */
mr_code
nn_infer_concat(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_shape	s = x->shape;
	int64_t		axis;

	NN_TRY(nn_get_int(c, "axis", 1, &axis));
	NN_TRY(nn_norm_axis(c, &axis, s.rank));
	for (int k = 1; k < c->n_in; k++)
	{
		nn_value   *v = nn_in(c, k);

		if (v == NULL || v->dtype != x->dtype || v->shape.rank != s.rank)
			return nn_infer_fail(c, MR_INVALID, "input %d does not fit the others", k);
		for (int i = 0; i < s.rank; i++)
			if (i != axis && v->shape.dims[i] != s.dims[i])
				return nn_infer_fail(c, MR_INVALID, "input %d does not fit the others", k);
		if (v->shape.dims[axis] > NN_MAX_DIM - s.dims[axis])
			return nn_infer_fail(c, MR_INVALID, "impossible output shape");
		s.dims[axis] += v->shape.dims[axis];
	}
	c->p->i[0] = axis;
	return nn_set_out(c, 0, x->dtype, &s);
}

mr_code
nn_run_concat(nn_run_call *c)
{
	int			axis = (int) c->p->i[0];
	nn_tensor  *y = &c->out[0];
	size_t		size = nn_dtype_size(y->dtype);
	int64_t		outer,
				inner,
				at = 0;

	around_axis(&y->shape, axis, &outer, &inner);
	for (int k = 0; k < c->n_in; k++)
	{
		size_t		run = (size_t) (c->in[k].shape.dims[axis] * inner) * size;
		size_t		pitch = (size_t) (y->shape.dims[axis] * inner) * size;

		for (int64_t o = 0; run && o < outer; o++)
			memcpy((char *) y->data + (size_t) o * pitch + (size_t) at * size,
				   (const char *) c->in[k].data + (size_t) o * run, run);
		at += c->in[k].shape.dims[axis] * inner;
		if (mr_interrupted(c->env))
			return MR_CANCELED;
	}
	return MR_OK;
}

/* Split: i[0] = axis; the sizes are the outputs' own. */
mr_code
nn_infer_split(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_shape	s = x->shape;
	int64_t		axis,
				sizes[256];
	int64_t		dim,
				sum = 0;
	int			n;

	NN_TRY(nn_get_int(c, "axis", 0, &axis));
	NN_TRY(nn_norm_axis(c, &axis, s.rank));
	if (c->n->opset < 13)
		NN_TRY(nn_get_ints(c, "split", 256, sizes, &n));
	else
		NN_TRY(nn_const_ints(c, 1, 256, sizes, &n));
	dim = s.dims[axis];
	if (n < 0)
	{
		int64_t		part = (dim + c->n_out - 1) / c->n_out;

		if (c->n_out > 256 || (c->n->opset < 18 && dim % c->n_out))
			return nn_infer_fail(c, MR_INVALID, "cannot split %lld into %d equal parts", (long long) dim, c->n_out);
		n = c->n_out;
		for (int k = 0; k < n; k++)
			sizes[k] = k < n - 1 ? part : dim - part * (n - 1);
	}
	if (n != c->n_out)
		return nn_infer_fail(c, MR_INVALID, "%d sizes for %d outputs", n, c->n_out);
	for (int k = 0; k < n; k++)
	{
		if (sizes[k] < 0 || sizes[k] > dim - sum)
			return nn_infer_fail(c, MR_INVALID, "the sizes do not add up to %lld", (long long) dim);
		sum += sizes[k];
		s.dims[axis] = sizes[k];
		NN_TRY(nn_set_out(c, k, x->dtype, &s));
	}
	if (sum != dim)
		return nn_infer_fail(c, MR_INVALID, "the sizes do not add up to %lld", (long long) dim);
	for (int k = 0; k < n; k++)
		if (nn_out(c, k) == NULL)
			return nn_infer_fail(c, MR_UNSUPPORTED, "omitted outputs are not supported");
	c->p->i[0] = axis;
	return MR_OK;
}

mr_code
nn_run_split(nn_run_call *c)
{
	int			axis = (int) c->p->i[0];
	const nn_tensor *x = &c->in[0];
	size_t		size = nn_dtype_size(x->dtype);
	int64_t		outer,
				inner,
				at = 0;

	around_axis(&x->shape, axis, &outer, &inner);
	for (int k = 0; k < c->n_out; k++)
	{
		size_t		run = (size_t) (c->out[k].shape.dims[axis] * inner) * size;
		size_t		pitch = (size_t) (x->shape.dims[axis] * inner) * size;

		for (int64_t o = 0; run && o < outer; o++)
			memcpy((char *) c->out[k].data + (size_t) o * run,
				   (const char *) x->data + (size_t) o * pitch + (size_t) at * size, run);
		at += c->out[k].shape.dims[axis] * inner;
		if (mr_interrupted(c->env))
			return MR_CANCELED;
	}
	return MR_OK;
}

/* Gather: i[0] = axis.  Indices are checked when they are known: at run time. */
mr_code
nn_infer_gather(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_value   *ix = nn_in(c, 1);
	nn_shape	s = {0};
	int64_t		axis;

	NN_TRY(nn_get_int(c, "axis", 0, &axis));
	NN_TRY(nn_norm_axis(c, &axis, x->shape.rank));
	if (ix->dtype != nn_int64 && ix->dtype != nn_int32)
		return nn_infer_fail(c, MR_INVALID, "indices must be integers");
	if (x->shape.rank - 1 + ix->shape.rank > NN_MAX_RANK)
		return nn_infer_fail(c, MR_UNSUPPORTED, "output of more than %d dimensions", NN_MAX_RANK);
	for (int i = 0; i < x->shape.rank; i++)
	{
		if (i != axis)
			s.dims[s.rank++] = x->shape.dims[i];
		else
			for (int j = 0; j < ix->shape.rank; j++)
				s.dims[s.rank++] = ix->shape.dims[j];
	}
	c->p->i[0] = axis;
	return nn_set_out(c, 0, x->dtype, &s);
}

mr_code
nn_run_gather(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	const nn_tensor *ix = &c->in[1];
	int			axis = (int) c->p->i[0];
	size_t		size = nn_dtype_size(x->dtype);
	int64_t		dim = x->shape.dims[axis];
	int64_t		outer,
				inner;
	char	   *dst = c->out[0].data;

	around_axis(&x->shape, axis, &outer, &inner);
	for (int64_t o = 0; o < outer; o++)
	{
		if (mr_interrupted(c->env))
			return MR_CANCELED;
		for (int64_t k = 0; k < ix->elements; k++)
		{
			int64_t		i = ix->dtype == nn_int64 ? ((int64_t *) ix->data)[k] : ((int32_t *) ix->data)[k];

			if (i < -dim || i >= dim)
				return mr_fail(c->st, MR_INVALID, "index %lld of operator Gather is out of range for %lld elements",
							   (long long) i, (long long) dim);
			i += i < 0 ? dim : 0;
			if (inner)
				memcpy(dst, (const char *) x->data + (size_t) ((o * dim + i) * inner) * size, (size_t) inner * size);
			dst += (size_t) inner * size;
		}
	}
	return MR_OK;
}

/* DepthToSpace (op->arg 0) and SpaceToDepth (1): i[0] = block, i[1] = CRD. */
mr_code
nn_infer_depth_space(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_shape	s = x->shape;
	int64_t		b;
	char		mode[32];

	NN_TRY(nn_get_int(c, "blocksize", 0, &b));
	if (s.rank != 4 || b < 1 || b > 1024)
		return nn_infer_fail(c, MR_INVALID, "bad rank or blocksize");
	if (!nn_get_string(c, "mode", "DCR", mode))
		return nn_infer_fail(c, MR_INVALID, "bad mode");
	if (c->n->op->arg ? s.dims[2] % b || s.dims[3] % b : s.dims[1] % (b * b) != 0)
		return nn_infer_fail(c, MR_INVALID, "the input does not divide into blocks of %lld", (long long) b);
	s.dims[1] = c->n->op->arg ? s.dims[1] * b * b : s.dims[1] / (b * b);
	s.dims[2] = c->n->op->arg ? s.dims[2] / b : s.dims[2] * b;
	s.dims[3] = c->n->op->arg ? s.dims[3] / b : s.dims[3] * b;
	c->p->i[0] = b;
	c->p->i[1] = strcmp(mode, "CRD") == 0;
	return nn_set_out(c, 0, x->dtype, &s);
}

mr_code
nn_run_depth_space(nn_run_call *c)
{
	/* Both walk the small (deep) tensor's channels against the wide one's pixels. */
	const nn_shape *wide = c->op->arg ? &c->in[0].shape : &c->out[0].shape;
	int64_t		b = c->p->i[0];
	int64_t		ch = wide->dims[1],
				h = wide->dims[2],
				w = wide->dims[3];
	size_t		size = nn_dtype_size(c->in[0].dtype);

	for (int64_t n = 0; n < wide->dims[0]; n++)
		for (int64_t i = 0; i < ch; i++)
		{
			if (mr_interrupted(c->env))
				return MR_CANCELED;
			for (int64_t y = 0; y < h; y++)
				for (int64_t x = 0; x < w; x++)
				{
					int64_t		cell = y % b * b + x % b;
					int64_t		deep = c->p->i[1] ? i * b * b + cell : cell * ch + i;
					int64_t		at_wide = ((n * ch + i) * h + y) * w + x;
					int64_t		at_deep = ((n * ch * b * b + deep) * (h / b) + y / b) * (w / b) + x / b;
					int64_t		from = c->op->arg ? at_wide : at_deep;
					int64_t		to = c->op->arg ? at_deep : at_wide;

					memcpy((char *) c->out[0].data + (size_t) to * size,
						   (const char *) c->in[0].data + (size_t) from * size, size);
				}
		}
	return MR_OK;
}

/* Tile: the output's shape says how often. */
mr_code
nn_infer_tile(nn_infer_call *c)
{
	nn_value   *x = nn_in(c, 0);
	nn_shape	s = x->shape;
	int64_t		repeats[NN_MAX_RANK];
	int			n;

	NN_TRY(nn_const_ints(c, 1, NN_MAX_RANK, repeats, &n));
	if (n != s.rank)
		return nn_infer_fail(c, MR_INVALID, "%d repeats for %d dimensions", n, s.rank);
	for (int i = 0; i < n; i++)
		if (repeats[i] < 0 || __builtin_mul_overflow(s.dims[i], repeats[i], &s.dims[i]))
			return nn_infer_fail(c, MR_INVALID, "bad repeats");
	return nn_set_out(c, 0, x->dtype, &s);
}

mr_code
nn_run_tile(nn_run_call *c)
{
	const nn_tensor *x = &c->in[0];
	nn_tensor  *y = &c->out[0];
	size_t		size = nn_dtype_size(y->dtype);
	int64_t		stride[NN_MAX_RANK];
	int64_t		index[NN_MAX_RANK] = {0};
	int64_t		run = 1;		/* trailing dimensions in one piece: the last repeated one is the longest */
	int			last = y->shape.rank - 1;
	int64_t		work = 0;

	nn_row_major(&x->shape, stride);
	while (last >= 0 && x->shape.dims[last] == y->shape.dims[last])
		run *= x->shape.dims[last--];
	if (last >= 0)
		run *= x->shape.dims[last];
	for (int64_t o = 0; run && o < y->elements; o += run)
	{
		int64_t		from = 0;

		if (nn_stop(c, &work, run + 16))
			return MR_CANCELED;
		for (int i = 0; i < last; i++)
			from += index[i] % x->shape.dims[i] * stride[i];
		memcpy((char *) y->data + (size_t) o * size, (const char *) x->data + (size_t) from * size, (size_t) run * size);
		if (last >= 0)
			index[last] += x->shape.dims[last];
		for (int i = last; i >= 0; i--)
		{
			if (index[i] < y->shape.dims[i])
				break;
			index[i] = 0;
			if (i > 0)
				index[i - 1]++;
		}
	}
	return MR_OK;
}
