/*
 * run.c
 *	  Running a compiled file: one image after the other, step by step.
 *
 * The workspace holds arena | scratch | operand tensors of plain steps; nothing
 * is allocated.  Long steps are cut into ranges of output lines so that the
 * environment can ask to stop.
 */
#include <string.h>

#include "nn/steps.h"

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

uint8_t *
nn_step_address(const nn_runner *r, const nn_ftensor *t)
{
	if (t->place == nn_place_arena)
		return r->arena + t->offset;
	if (t->place == nn_place_const)
		return (uint8_t *) (uintptr_t) (r->m->bytes + t->offset);	/* only read */
	return (uint8_t *) (uintptr_t) r->inputs[t->offset];
}

const nn_ftensor *
nn_step_operand(const nn_runner *r, const nn_fstep *s, int i)
{
	int32_t		t = r->operands[s->operands + (uint32_t) i];

	return t < 0 ? NULL : &r->tensors[t];
}

/* How many output lines take some 5 ms. */
static int
lines_per_slice(const nn_step_run *c, int lines)
{
	double		fit = c->s->macs > 0 ? 5 * c->k->mac_rate / (double) c->s->macs : lines;

	return fit >= lines ? lines : fit < 1 ? 1 : (int) fit;
}

static mr_code
run_step(nn_runner *r, const nn_fstep *s)
{
	const nn_step_type *type = &nn_step_types[s->kind];
	const nn_margin *m;
	nn_step_run c;
	int			lines,
				slice;

	memset(&c, 0, sizeof(c));
	c.r = r;
	c.s = s;
	c.k = r->k;
	c.data = r->m->bytes + s->data;
	c.tx = s->n_in > 0 ? nn_step_operand(r, s, 0) : NULL;
	c.ty = nn_step_operand(r, s, s->n_in);
	if (c.tx)
		c.x = nn_tensor_view(c.tx, nn_step_address(r, c.tx));
	if (c.ty)
		c.y = nn_tensor_view(c.ty, nn_step_address(r, c.ty));
	if (type->run)
		NN_TRY(type->run(&c));
	else
	{
		lines = type->lines ? type->lines(&c) : c.ty->h;
		slice = lines_per_slice(&c, lines);
		for (int y0 = 0; y0 < lines; y0 += slice)
		{
			if (y0 && mr_interrupted(r->env))
				return mr_fail(r->st, MR_CANCELED, "canceled");
			type->run_lines(&c, y0, lines - y0 < slice ? lines : y0 + slice);
		}
	}
	if (!type->blocked)
		return MR_OK;
	m = &c.ty->margin;
	if (m->top | m->left | m->bottom | m->right)
		nn_border(&c.y, *m);
	return MR_OK;
}

mr_code
nn_run_observed(const nn_model *m, const mr_env *env, void *workspace, int batch, const void *const *inputs,
				void *const *outputs, const nn_observer *observer, mr_status *st)
{
	const nn_file_header *h = m->header;
	const nn_fstep *steps = (const void *) (m->bytes + h->steps);
	const nn_port *ports = (const void *) (m->bytes + h->ports);
	uint64_t	wanted = 0;
	nn_runner	r;
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
			if (observer && rc == MR_OK)
				observer->step(observer->arg, &r, i);
		}
		for (uint32_t i = 0; i < h->n_outputs && rc == MR_OK; i++)
		{
			const nn_port *out = &ports[h->n_inputs + i];
			size_t		bytes = (size_t) out->info.elements * nn_dtype_size(out->info.dtype);

			if (outputs[i] && bytes)
				memcpy((uint8_t *) outputs[i] + (size_t) n * bytes, nn_step_address(&r, &r.tensors[out->tensor]), bytes);
		}
	}
	denormals_restore(mode);
	return rc;
}

mr_code
nn_run_typed(const nn_model *m, const mr_env *env, void *workspace, int batch,
			 const void *const *inputs, void *const *outputs, mr_status *st)
{
	return nn_run_observed(m, env, workspace, batch, inputs, outputs, NULL, st);
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
