/*
 * run.c
 *	  Running a compiled file: one image after the other, step by step.
 *
 * The workspace holds arena | scratch | operand tensors of plain steps; nothing
 * is allocated.  Long steps are cut into ranges of output lines so that the
 * environment can ask to stop.
 */
#include <string.h>

#include "nn/file.h"
#include "nn/ops_impl.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

/* Flush denormals to zero, both as results and as operands: some CPUs take 100
 * times as long for them.  PostgreSQL expects the mode unchanged afterwards. */
static unsigned
denormals_off(void)
{
#if defined(__SSE__)
	unsigned	old = _mm_getcsr();

	_mm_setcsr(old | 0x8040);
	return old;
#else
	return 0;
#endif
}

static void
denormals_restore(unsigned old)
{
#if defined(__SSE__)
	_mm_setcsr(old);
#else
	(void) old;
#endif
}

typedef struct runner
{
	const nn_model *m;
	const nn_file_header *h;
	const nn_ftensor *tensors;
	const int32_t *operands;
	const nn_kernels *k;
	const mr_env *env;
	mr_status  *st;
	uint8_t    *arena;
	uint8_t    *scratch;
	nn_tensor  *plain;
	const uint8_t *inputs[NN_MAX_PORTS];	/* of the image at hand */
} runner;

/* First element of a tensor.  Constants and inputs are only read. */
static uint8_t *
address(const runner *r, const nn_ftensor *t)
{
	if (t->place == nn_place_arena)
		return r->arena + t->offset;
	if (t->place == nn_place_const)
		return (uint8_t *) (uintptr_t) (r->m->bytes + t->offset);
	return (uint8_t *) (uintptr_t) r->inputs[t->offset];
}

static const nn_ftensor *
operand(const runner *r, const nn_fstep *s, int i)
{
	int32_t		t = r->operands[s->operands + (uint32_t) i];

	return t < 0 ? NULL : &r->tensors[t];
}

static mr_code
run_plain(runner *r, const nn_fstep *s)
{
	nn_run_call c;
	mr_code		rc;

	memset(&c, 0, sizeof(c));
	c.p = &s->u.params;
	c.op = &nn_ops[s->op];
	c.kernels = r->k;
	c.env = r->env;
	c.st = r->st;
	c.n_in = s->n_in;
	c.n_out = s->n_out;
	c.in = r->plain;
	c.out = r->plain + s->n_in;
	for (int i = 0; i < s->n_in + s->n_out; i++)
	{
		const nn_ftensor *t = operand(r, s, i);

		memset(&r->plain[i], 0, sizeof(nn_tensor));
		if (t == NULL)
			continue;
		r->plain[i].dtype = t->dtype;
		r->plain[i].shape = t->shape;
		r->plain[i].elements = t->elements;
		r->plain[i].data = address(r, t);
	}
	rc = c.op->run(&c);
	return rc == MR_CANCELED ? mr_fail(r->st, MR_CANCELED, "canceled") : rc;
}

/* Pixels of every sy-th line and sx-th column, channels moved up by `to`, zeros
 * around them. */
static void
run_shortcut(const runner *r, const nn_fstep *s, const nn_view *x, const nn_view *y, int y0, int y1)
{
	nn_view		from = *x;
	int			first = s->u.move.to / NN_LANES;
	int			last = (s->u.move.to + s->u.move.n) / NN_LANES;	/* first block not covered to its end */

	for (int b = 0; b < nn_blocks(y->c); b++)
	{
		if (b > first && b < last)
			continue;
		if (b == first && b < last && s->u.move.to % NN_LANES == 0)
			continue;
		for (int line = y0; line < y1; line++)
			memset(y->data + (size_t) b * y->blk_pitch + (size_t) line * y->row_pitch, 0,
				   (size_t) y->w * NN_LANES * sizeof(float));
	}
	from.data += (size_t) s->u.move.y0 * x->row_pitch + (size_t) s->u.move.x0 * NN_LANES;
	r->k->copy_channels(&from, 0, s->u.move.n, s->u.move.sy, s->u.move.sx, y, s->u.move.to, y0, y1);
}

/* Output lines [y0, y1) of a step over blocked tensors. */
static void
run_lines(const runner *r, const nn_fstep *s, const nn_ftensor *tx, const nn_ftensor *ty, int y0, int y1)
{
	const nn_kernels *k = r->k;
	const uint8_t *data = r->m->bytes + s->data;
	const nn_ftensor *t1 = s->n_in > 1 ? operand(r, s, 1) : NULL;
	nn_view		x = nn_tensor_view(tx, address(r, tx));
	nn_view		y = nn_tensor_view(ty, address(r, ty));
	nn_view		b;
	const nn_view *res = NULL;

	if (t1)
	{
		b = nn_tensor_view(t1, address(r, t1));
		res = &b;
	}
	switch (s->kind)
	{
		case nn_step_conv:
			k->conv(&s->u.conv, data, &x, res, &y, y0, y1, r->scratch);
			break;
		case nn_step_conv_planar:
			k->conv_planar(&s->u.conv, data, x.data, tx->shape.rank == 4 ? (int) tx->shape.dims[2] : 1,
						   (int) tx->shape.dims[tx->shape.rank - 1], res, &y, y0, y1, r->scratch);
			break;
		case nn_step_depthwise:
			k->depthwise(&s->u.conv, data, &x, res, &y, y0, y1);
			break;
		case nn_step_maxpool:
			k->maxpool(&s->u.pool, &x, &y, y0, y1);
			break;
		case nn_step_avgpool:
			k->avgpool(&s->u.pool, &x, &y, y0, y1);
			break;
		case nn_step_binary:
			k->binary((nn_binary) s->op, &x, res, &y, s->act, y0, y1);
			break;
		case nn_step_scale_shift:
			{
				const float *scale = s->data_len ? (const float *) (const void *) data : NULL;
				const float *shift = scale ? scale + (size_t) nn_blocks(y.c) * NN_LANES : NULL;

				k->scale_shift(&x, scale, shift, &y, s->act, y0, y1);
				break;
			}
		case nn_step_to_blocked:
			k->to_blocked(x.data, &y, y0, y1);
			break;
		case nn_step_copy_channels:
			k->copy_channels(&x, 0, s->u.move.n, 1, 1, &y, s->u.move.to, y0, y1);
			break;
		case nn_step_shortcut:
			run_shortcut(r, s, &x, &y, y0, y1);
			break;
	}
}

/* How many output lines take some 5 ms. */
static int
lines_per_slice(const runner *r, const nn_fstep *s, int lines)
{
	double		fit = s->macs > 0 ? 5 * r->k->mac_rate / (double) s->macs : lines;

	return fit >= lines ? lines : fit < 1 ? 1 : (int) fit;
}

static mr_code
run_step(runner *r, const nn_fstep *s)
{
	const nn_ftensor *tx,
			   *ty;
	int			lines,
				slice;
	nn_view		v;

	if (s->kind == nn_step_plain)
		return run_plain(r, s);
	tx = operand(r, s, 0);
	ty = operand(r, s, s->n_in);
	if (s->kind == nn_step_global_avgpool || s->kind == nn_step_global_maxpool)
	{
		v = nn_tensor_view(tx, address(r, tx));
		(s->kind == nn_step_global_avgpool ? r->k->global_avgpool : r->k->global_maxpool)
			(&v, (float *) (void *) address(r, ty));
		return MR_OK;
	}
	lines = s->kind == nn_step_gemm ? s->u.gemm.m : s->kind == nn_step_from_blocked ? tx->h : ty->h;
	slice = lines_per_slice(r, s, lines);
	for (int y0 = 0; y0 < lines; y0 += slice)
	{
		int			y1 = lines - y0 < slice ? lines : y0 + slice;

		if (y0 && mr_interrupted(r->env))
			return mr_fail(r->st, MR_CANCELED, "canceled");
		if (s->kind == nn_step_gemm)
			r->k->gemm(r->m->bytes + s->data, y1 - y0,
					   (const float *) (const void *) address(r, tx) + (size_t) y0 * (size_t) s->u.gemm.k,
					   (size_t) s->u.gemm.k, NULL, 0,
					   (float *) (void *) address(r, ty) + (size_t) y0 * (size_t) s->u.gemm.n,
					   (size_t) s->u.gemm.n, s->act, r->scratch);
		else if (s->kind == nn_step_from_blocked)
		{
			v = nn_tensor_view(tx, address(r, tx));
			r->k->from_blocked(&v, (float *) (void *) address(r, ty), y0, y1);
		}
		else
			run_lines(r, s, tx, ty, y0, y1);
	}
	if (ty->blocked && (ty->margin.top | ty->margin.left | ty->margin.bottom | ty->margin.right))
	{
		v = nn_tensor_view(ty, address(r, ty));
		nn_border(&v, ty->margin);
	}
	return MR_OK;
}

mr_code
nn_run_typed(const nn_model *m, const mr_env *env, void *workspace, int batch,
			 const void *const *inputs, void *const *outputs, mr_status *st)
{
	const nn_file_header *h = m->header;
	const nn_fstep *steps = (const void *) (m->bytes + h->steps);
	const nn_port *ports = (const void *) (m->bytes + h->ports);
	uint64_t	wanted = 0;
	runner		r;
	unsigned	mode;
	mr_code		rc = MR_OK;

	if ((uintptr_t) workspace % 64)
		return mr_fail(st, MR_INTERNAL, "the workspace is not aligned");
	memset(&r, 0, sizeof(r));
	r.m = m;
	r.h = h;
	r.tensors = (const void *) (m->bytes + h->tensors);
	r.operands = (const void *) (m->bytes + h->operands);
	r.k = m->kernels;
	r.env = env;
	r.st = st;
	r.arena = workspace;
	r.scratch = r.arena + h->arena;
	r.plain = (nn_tensor *) (void *) (r.scratch + h->scratch);
	for (uint32_t i = 0; i < h->n_outputs; i++)
		if (outputs[i])
			wanted |= UINT64_C(1) << i;
	mode = denormals_off();
	for (int n = 0; n < batch && rc == MR_OK; n++)
	{
		for (uint32_t i = 0; i < h->n_inputs; i++)
			r.inputs[i] = (const uint8_t *) inputs[i] +
				(size_t) n * (size_t) ports[i].info.elements * nn_dtype_size(ports[i].info.dtype);
		for (uint32_t i = 0; i < h->n_steps && rc == MR_OK; i++)
		{
			if (!(steps[i].wanted & wanted))
				continue;
			if (mr_interrupted(env))
				rc = mr_fail(st, MR_CANCELED, "canceled");
			else
				rc = run_step(&r, &steps[i]);
		}
		for (uint32_t i = 0; i < h->n_outputs && rc == MR_OK; i++)
		{
			const nn_port *out = &ports[h->n_inputs + i];
			size_t		bytes = (size_t) out->info.elements * nn_dtype_size(out->info.dtype);

			if (outputs[i] && bytes)
				memcpy((uint8_t *) outputs[i] + (size_t) n * bytes, address(&r, &r.tensors[out->tensor]), bytes);
		}
	}
	denormals_restore(mode);
	return rc;
}

mr_code
nn_run(const nn_model *m, const mr_env *env, void *workspace, int batch,
	   const float *const *inputs, float *const *outputs, mr_status *st)
{
	for (int i = 0; i < nn_n_inputs(m) + nn_n_outputs(m); i++)
	{
		bool		in = i < nn_n_inputs(m);
		const nn_tensor_info *t = in ? nn_input(m, i) : nn_output(m, i - nn_n_inputs(m));

		if (t->dtype != nn_float32 && (in || outputs[i - nn_n_inputs(m)]))
			return mr_fail(st, MR_UNSUPPORTED, "%s \"%.100s\" of the model is %s, not float32", in ? "input" : "output",
						   t->name, nn_dtype_name((nn_dtype) t->dtype));
	}
	return nn_run_typed(m, env, workspace, batch, (const void *const *) inputs, (void *const *) outputs, st);
}
