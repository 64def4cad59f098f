/*
 * run.c
 *	  Running a compiled file: one image after the other, step by step.
 *
 * The workspace holds arena | scratch | operand tensors of plain steps; nothing
 * is allocated.  Long steps are cut into ranges of output lines so that the
 * environment can ask to stop.
 */
#include <string.h>

#include "core/denormals.h"
#include "nn/steps.h"

uint8_t *
nn_step_address(const nn_runner *r, const nn_ftensor *t)
{
	size_t		image = r->image ? (size_t) r->image * (size_t) t->elements * nn_dtype_size(t->dtype) : 0;

	if (t->place == nn_place_arena)
		return r->arena + t->offset * (uint64_t) r->group + image;
	if (t->place == nn_place_const)
		return (uint8_t *) (uintptr_t) (r->m->bytes + t->offset);	/* only read */
	return (uint8_t *) (uintptr_t) (r->inputs[t->offset] + image);
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
run_step(nn_runner *r, const nn_fstep *s, int images)
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
	c.images = images;
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
	if (!(m->top | m->left | m->bottom | m->right))
		return MR_OK;
	if (c.ty->dtype == nn_float32)
		nn_border(&c.y, *m);
	else
	{
		nn_low_view y = {c.y, nn_ftensor_quant(c.ty)};

		nn_low_border(&y, *m);
	}
	return MR_OK;
}

/* One step for a group of images: at once where their rows are just more rows. */
static mr_code
run_images(nn_runner *r, const nn_fstep *s, int images)
{
	mr_code		rc = MR_OK;

	if (images == 1 || s->folds)
		return run_step(r, s, images);
	for (r->image = 0; r->image < images && rc == MR_OK; r->image++)
		rc = run_step(r, s, 1);
	r->image = 0;
	return rc;
}

/* Where the inputs of image n lie; those that the plan is bound to must be as it
 * was made for. */
static mr_code
take_inputs(nn_runner *r, const nn_port *ports, int n, const void *const *inputs)
{
	for (uint32_t i = 0; i < r->h->n_inputs; i++)
	{
		size_t		bytes = (size_t) ports[i].info.elements * nn_dtype_size(ports[i].info.dtype);

		r->inputs[i] = (const uint8_t *) inputs[i] + (size_t) n * bytes;
		if (ports[i].bound && bytes && memcmp(r->inputs[i], r->m->bytes + ports[i].value, bytes) != 0)
			return mr_fail(r->st, MR_INVALID, "input \"%.100s\" is not the one that this plan was made for",
						   ports[i].info.name);
	}
	return MR_OK;
}

/* An output whose dimensions depend on data: only what there is, closed up. */
static void
give_dynamic(const nn_runner *r, const nn_tensor_info *info, const uint8_t *src, uint8_t *dst, nn_shape *shape)
{
	size_t		size = nn_dtype_size(info->dtype);
	size_t		run = size;
	int64_t		index[NN_MAX_RANK] = {0};
	int			rank = info->rank;

	memset(shape, 0, sizeof(*shape));
	shape->rank = rank;
	for (int i = 0; i < rank; i++)
	{
		int64_t		most = i == 0 && info->dims[0] == -1 ? 1 : info->dims[i];
		int64_t		n = info->dynamic[i] ? r->counts[info->dynamic[i] - 1] : most;

		shape->dims[i] = n < 0 ? 0 : n > most ? most : n;
	}
	/* runs of what is whole behind the last dynamic dimension */
	while (rank > 0 && info->dynamic[rank - 1] == 0)
		run *= (size_t) shape->dims[--rank];
	if (rank > 0)
		run *= (size_t) shape->dims[--rank];
	for (int i = 0; i < info->rank; i++)
		if (shape->dims[i] == 0)
			return;
	for (;;)
	{
		size_t		at = 0;
		int			i;

		for (i = 0; i < info->rank; i++)
			at = at * (size_t) (i == 0 && info->dims[0] == -1 ? 1 : info->dims[i]) + (size_t) (i < rank ? index[i] : 0);
		memcpy(dst, src + at * size, run);
		dst += run;
		for (i = rank - 1; i >= 0; i--)
		{
			if (++index[i] < shape->dims[i])
				break;
			index[i] = 0;
		}
		if (i < 0)
			return;
	}
}

/* Copy the outputs of image n to the caller. */
static void
give_outputs(const nn_runner *r, const nn_port *ports, int n, void *const *outputs, nn_shape *shapes)
{
	for (uint32_t i = 0; i < r->h->n_outputs; i++)
	{
		const nn_tensor_info *info = &ports[i].info;
		size_t		bytes = (size_t) info->elements * nn_dtype_size(info->dtype);
		const uint8_t *src;
		uint8_t    *dst;
		nn_shape	shape;

		if (outputs[i] == NULL)
			continue;
		src = nn_step_address(r, &r->tensors[ports[i].tensor]);
		dst = (uint8_t *) outputs[i] + (size_t) n * bytes;
		if (shapes)
			give_dynamic(r, info, src, dst, &shape);
		else if (bytes)
			memcpy(dst, src, bytes);
		if (shapes)
			shapes[(uint32_t) n * r->h->n_outputs + i] = shape;
	}
}

static mr_code
run(const nn_model *m, const mr_env *env, void *workspace, int batch, const void *const *inputs,
	void *const *outputs, nn_shape *shapes, const nn_observer *observer, mr_status *st)
{
	const nn_fplan *h = m->plan;
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
	r.scratch = r.arena + h->arena * h->group;
	r.plain = (nn_tensor *) (void *) (r.scratch + h->scratch);
	for (uint32_t i = 0; i < h->n_outputs; i++)
		if (outputs[i])
			wanted |= UINT64_C(1) << i;
	mode = mr_denormals_off();
	r.group = batch > 1 && observer == NULL ? (int) h->group : 1;
	for (int n = 0; n < batch && rc == MR_OK; n += r.group)
	{
		int			images = batch - n < r.group ? batch - n : r.group;

		for (int i = images - 1; i >= 0 && rc == MR_OK; i--)
			rc = take_inputs(&r, ports, n + i, inputs);
		for (uint32_t i = 0; i < h->n_steps && rc == MR_OK; i++)
		{
			if (!(steps[i].wanted & wanted))
				continue;
			if (mr_interrupted(env))
				rc = mr_fail(st, MR_CANCELED, "canceled");
			else
				rc = run_images(&r, &steps[i], images);
			if (observer && rc == MR_OK)
				observer->step(observer->arg, &r, i);
		}
		for (r.image = 0; r.image < images && rc == MR_OK; r.image++)
			give_outputs(&r, ports + h->n_inputs, n + r.image, outputs, shapes);
		r.image = 0;
	}
	mr_denormals_restore(mode);
	return rc;
}

mr_code
nn_run_shaped(const nn_model *m, const mr_env *env, void *workspace, int batch,
			  const void *const *inputs, void *const *outputs, nn_shape *shapes, mr_status *st)
{
	return run(m, env, workspace, batch, inputs, outputs, shapes, NULL, st);
}

mr_code
nn_run_observed(const nn_model *m, const mr_env *env, void *workspace, int batch, const void *const *inputs,
				void *const *outputs, const nn_observer *observer, mr_status *st)
{
	return run(m, env, workspace, batch, inputs, outputs, NULL, observer, st);
}

mr_code
nn_run_typed(const nn_model *m, const mr_env *env, void *workspace, int batch,
			 const void *const *inputs, void *const *outputs, mr_status *st)
{
	return run(m, env, workspace, batch, inputs, outputs, NULL, NULL, st);
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
