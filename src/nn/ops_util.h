/*
 * ops_util.h
 *	  What plain kernels share: element types, rows of broadcast operands, axes,
 *	  indices, and when to ask whether to stop.
 */
#ifndef MILLRACE_NN_OPS_UTIL_H
#define MILLRACE_NN_OPS_UTIL_H

#include <string.h>

#include "nn/ops_impl.h"

/* Run the statements with T the C type of dtype; nothing for other types.  They
 * must not contain a break of their own outside a loop. */
#define NN_CASE(dtype, type, ...) case dtype: { typedef type T; __VA_ARGS__ } break;

#define NN_INT_CASES(...) \
	NN_CASE(nn_int8, int8_t, __VA_ARGS__) \
	NN_CASE(nn_uint8, uint8_t, __VA_ARGS__) \
	NN_CASE(nn_int16, int16_t, __VA_ARGS__) \
	NN_CASE(nn_uint16, uint16_t, __VA_ARGS__) \
	NN_CASE(nn_int32, int32_t, __VA_ARGS__) \
	NN_CASE(nn_uint32, uint32_t, __VA_ARGS__) \
	NN_CASE(nn_int64, int64_t, __VA_ARGS__) \
	NN_CASE(nn_uint64, uint64_t, __VA_ARGS__)

#define NN_WITH_INTEGER(dtype, ...) \
	switch (dtype) { NN_INT_CASES(__VA_ARGS__) }

#define NN_WITH_NUMBER(dtype, ...) \
	switch (dtype) { NN_CASE(nn_float32, float, __VA_ARGS__) NN_INT_CASES(__VA_ARGS__) }

#define NN_WITH_NUMBER_OR_BOOL(dtype, ...) \
	switch (dtype) { NN_CASE(nn_float32, float, __VA_ARGS__) NN_CASE(nn_bool, uint8_t, __VA_ARGS__) \
		NN_INT_CASES(__VA_ARGS__) }

/* T is an unsigned integer of the element's size: for moving elements. */
#define NN_WITH_SIZE(size, ...) \
	switch (size) \
	{ \
		NN_CASE(1, uint8_t, __VA_ARGS__) \
		NN_CASE(2, uint16_t, __VA_ARGS__) \
		NN_CASE(4, uint32_t, __VA_ARGS__) \
		NN_CASE(8, uint64_t, __VA_ARGS__) \
	}

/* a op b of type T (NN_WITH_NUMBER): integers wrap. */
#define NN_WRAP(a, op, b) \
	((T) 0.5f != 0 ? (T) ((a) op (b)) : (T) ((uint64_t) (a) op (uint64_t) (b)))

static inline bool
nn_is_integer(int dtype)
{
	return (dtype >= nn_uint8 && dtype <= nn_int64) || dtype == nn_uint32 || dtype == nn_uint64;
}

static inline bool
nn_is_number(int dtype)
{
	return dtype == nn_float32 || nn_is_integer(dtype);
}

static inline bool
nn_is_unsigned(int dtype)
{
	return dtype == nn_uint8 || dtype == nn_uint16 || dtype == nn_uint32 || dtype == nn_uint64;
}

/* "type x is not supported" for input k unless fits(dtype); omitted is fine. */
extern mr_code nn_need_type(nn_infer_call *c, int k, bool (*fits) (int dtype));
/* Input k is a whole-number index tensor: int32 or int64. */
extern mr_code nn_need_index(nn_infer_call *c, int k);

/* Outputs 0 to n - 1 exist from now on, even if the model omits them: results that
 * run() needs as state, and work space.  Adds values: pointers to some are void. */
extern mr_code nn_need_outputs(nn_infer_call *c, int n);

/* Counts simple operations; true when it is time to stop. */
static inline bool
nn_stop(const nn_run_call *c, int64_t *work, int64_t more)
{
	if ((*work += more) < NN_STOP_WORK)
		return false;
	*work = 0;
	return mr_interrupted(c->env);
}

/* Strides in elements of a row-major shape. */
static inline void
nn_row_major(const nn_shape *s, int64_t stride[NN_MAX_RANK])
{
	int64_t		n = 1;

	for (int i = s->rank - 1; i >= 0; i--)
	{
		stride[i] = n;
		n *= s->dims[i];
	}
}

/* Elements before and after an axis. */
static inline void
nn_around_axis(const nn_shape *s, int axis, int64_t *outer, int64_t *inner)
{
	*outer = *inner = 1;
	for (int i = 0; i < axis; i++)
		*outer *= s->dims[i];
	for (int i = axis + 1; i < s->rank; i++)
		*inner *= s->dims[i];
}

/* Positions X of [0, out) for which X * step + off lies in [0, in). */
static inline void
nn_span(int64_t off, int64_t step, int64_t in, int64_t out, int64_t *from, int64_t *to)
{
	*from = off >= 0 ? 0 : (-off + step - 1) / step;
	*to = in <= off ? 0 : (in - off + step - 1) / step;
	*to = *to < out ? *to : out;
}

/* A tensor of 3 to 5 dimensions as images of three. */
typedef struct nn_volume
{
	int64_t		n,
				c,
				d,
				h,
				w;
} nn_volume;

static inline nn_volume
nn_volume_of(const nn_shape *s)
{
	nn_volume	v = {s->dims[0], s->dims[1], s->rank > 4 ? s->dims[s->rank - 3] : 1,
	s->rank > 3 ? s->dims[s->rank - 2] : 1, s->dims[s->rank - 1]};

	return v;
}

/* Integer k of an int32 or int64 tensor. */
static inline int64_t
nn_index_at(const nn_tensor *t, int64_t k)
{
	return t->dtype == nn_int64 ? ((const int64_t *) t->data)[k] : ((const int32_t *) t->data)[k];
}

/* The same as a position along a dimension; negative counts from the end. */
extern mr_code nn_bad_index(nn_run_call *c, int64_t i, int64_t dim);

#define NN_INDEX(c, t, k, dim, out) \
	do { \
		int64_t		i_ = nn_index_at(t, k); \
		if (i_ < -(dim) || i_ >= (dim)) \
			return nn_bad_index(c, i_, dim); \
		(out) = i_ < 0 ? i_ + (dim) : i_; \
	} while (0)

/* A double kept in one of a node's integer parameters. */
static inline int64_t
nn_real_bits(double d)
{
	int64_t		i;

	memcpy(&i, &d, sizeof(i));
	return i;
}

static inline double
nn_real(int64_t i)
{
	double		d;

	memcpy(&d, &i, sizeof(d));
	return d;
}

/* Name of a choice among n; -1 if the attribute is none of them. */
extern int	nn_get_choice(nn_infer_call *c, const char *name, const char *dflt, int n, const char *const *choices);

/* Walk a broadcast result in long rows: the statements see r, the row's first element,
 * cols, its length, the operands' offsets off[] and inner strides st[]. */
#define NN_ROW_MAX (NN_STOP_WORK / 16)
#define NN_BCAST_ROWS(c, b, n, ...) \
	do { \
		int64_t		index_[NN_MAX_RANK] = {0}; \
		int64_t		at_[3] = {0}; \
		int64_t		st[3] = {0}; \
		const int64_t all_ = (b).dims[(b).rank - 1]; \
		int64_t		r = 0, work_ = 0; \
		for (int k_ = 0; k_ < (n); k_++) \
			st[k_] = (b).stride[k_][(b).rank - 1]; \
		if ((c)->out[0].elements == 0) \
			break; \
		do \
			for (int64_t part_ = 0; part_ < all_; part_ += NN_ROW_MAX) \
			{ \
				const int64_t cols = all_ - part_ < NN_ROW_MAX ? all_ - part_ : NN_ROW_MAX; \
				int64_t		off[3]; \
				for (int k_ = 0; k_ < 3; k_++) \
					off[k_] = at_[k_] + part_ * st[k_]; \
				if (nn_stop(c, &work_, cols * 8)) \
					return MR_CANCELED; \
				__VA_ARGS__ \
				r += cols; \
			} \
		while (nn_bcast_next(&(b), (n), index_, at_)); \
	} while (0)

#endif							/* MILLRACE_NN_OPS_UTIL_H */
