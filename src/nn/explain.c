/*
 * explain.c
 *	  What the steps of a plan do, in words and figures.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "nn/steps_impl.h"

static const char *
act_name(nn_act_kind kind)
{
	static const char *const names[] = {
		[nn_act_relu] = "relu",
		[nn_act_clip] = "clip",
		[nn_act_leaky] = "leaky relu",
		[nn_act_sigmoid] = "sigmoid",
		[nn_act_silu] = "silu",
		[nn_act_tanh] = "tanh",
		[nn_act_hardsigmoid] = "hard sigmoid",
		[nn_act_hardswish] = "hard swish",
		[nn_act_gelu] = "gelu",
		[nn_act_elu] = "elu",
		[nn_act_exp] = "exp",
		[nn_act_gelu_tanh] = "gelu (tanh)",
		[nn_act_gelu_quick] = "quick gelu",
	};

	return (size_t) kind < sizeof(names) / sizeof(names[0]) ? names[kind] : NULL;
}

/* Append ", text" (or "text" at the start). */
void
nn_step_say(char *text, size_t size, const char *more)
{
	size_t		at = strlen(text);

	if (more)
		snprintf(text + at, size - at, "%s%s", at ? ", " : "", more);
}

void
nn_step_describe_act(const nn_fstep *s, char *text, size_t size)
{
	nn_step_say(text, size, act_name(s->act.kind));
}

void
nn_step_describe_conv(const nn_fstep *s, char *text, size_t size)
{
	const nn_conv *cv = &s->u.conv;
	char		word[64];

	snprintf(word, sizeof(word), "%dx%d", cv->kh, cv->kw);
	nn_step_say(text, size, word);
	if (cv->sh * cv->sw > 1)
	{
		snprintf(word, sizeof(word), "stride %d", cv->sh > cv->sw ? cv->sh : cv->sw);
		nn_step_say(text, size, word);
	}
	if (cv->dh * cv->dw > 1)
		nn_step_say(text, size, "dilated");
	if (cv->groups > 1 && s->kind != nn_step_depthwise && s->kind != nn_step_low_depthwise)
	{
		snprintf(word, sizeof(word), "%d groups", cv->groups);
		nn_step_say(text, size, word);
	}
	if (s->residual)
		nn_step_say(text, size, "+ residual");
	nn_step_describe_act(s, text, size);
}

void
nn_step_describe_pool(const nn_fstep *s, char *text, size_t size)
{
	snprintf(text, size, "%dx%d stride %d", s->u.pool.kh, s->u.pool.kw, s->u.pool.sh);
}

void
nn_step_describe_binary(const nn_fstep *s, char *text, size_t size)
{
	static const char *const names[] = {"add", "sub", "mul", "div", "min", "max"};

	nn_step_say(text, size, names[s->op]);
	nn_step_describe_act(s, text, size);
}

void
nn_step_describe_gemm(const nn_fstep *s, char *text, size_t size)
{
	snprintf(text, size, "%dx%dx%d%s", s->u.gemm.m, s->u.gemm.k, s->u.gemm.n, s->residual ? ", + residual" : "");
	nn_step_describe_act(s, text, size);
}

void
nn_step_describe_move(const nn_fstep *s, char *text, size_t size)
{
	snprintf(text, size, "%d channels to %d", s->u.move.n, s->u.move.to);
}

int
nn_n_steps(const nn_model *m)
{
	return (int) m->plan->n_steps;
}

/* Multiply-adds count two; steps without a count of their own: one an element. */
static int64_t
count_flops(const nn_fstep *s, const nn_ftensor *x, const nn_ftensor *y)
{
	switch (s->kind)
	{
		case nn_step_conv:
		case nn_step_conv_planar:
		case nn_step_depthwise:
		case nn_step_low_conv:
		case nn_step_low_planar:
		case nn_step_low_depthwise:
			return 2 * s->macs * y->h;
		case nn_step_mbconv:
			return 2 * nn_mbconv_macs(&s->u.mbconv, x->h, x->w, y->h, y->w);
		case nn_step_winograd:
		case nn_step_low_winograd:
			return 2 * 9 * y->elements * s->u.conv.cin;	/* of the direct method */
		case nn_step_gemm:
		case nn_step_low_gemm:
			return 2 * s->macs * s->u.gemm.m;
		case nn_step_attention:
			return 2 * s->macs * s->u.attention.batch * s->u.attention.shape.heads * s->u.attention.shape.queries;
		case nn_step_maxpool:
		case nn_step_avgpool:
			return y->elements * s->u.pool.kh * s->u.pool.kw;
		case nn_step_to_blocked:
		case nn_step_from_blocked:
		case nn_step_copy_channels:
		case nn_step_shortcut:
		case nn_step_low_copy:
		case nn_step_low_resize:
			return 0;
		default:
			return x && x->elements > y->elements ? x->elements : y->elements;
	}
}

void
nn_describe_step(const nn_model *m, int step, nn_step_info *info)
{
	const nn_ftensor *tensors = (const void *) (m->bytes + m->plan->tensors);
	const nn_fstep *s = (const nn_fstep *) (const void *) (m->bytes + m->plan->steps) + step;
	const nn_step_type *type = &nn_step_types[s->kind];
	const int32_t *operands = (const int32_t *) (const void *) (m->bytes + m->plan->operands) + s->operands;
	const nn_ftensor *x = s->n_in > 0 && operands[0] >= 0 ? &tensors[operands[0]] : NULL;
	const nn_ftensor *y = &tensors[operands[s->n_in]];

	memset(info, 0, sizeof(*info));
	info->plain = s->kind == nn_step_plain;
	info->kernel = info->plain ? nn_ops[s->op].name : type->name;
	info->label = s->label;
	info->layout = y->blocked ? "blocked" : "plain";
	info->dtype = nn_dtype_name((nn_dtype) y->dtype);
	if (type->describe)
		type->describe(s, info->detail, sizeof(info->detail));
	info->rank = y->shape.rank;
	memcpy(info->dims, y->shape.dims, sizeof(info->dims));
	info->weight_bytes = (int64_t) s->data_len;
	for (int i = 0; i < s->n_in + s->n_out; i++)
		if (operands[i] >= 0)
			info->data_bytes += tensors[operands[i]].elements * (int64_t) nn_dtype_size(tensors[operands[i]].dtype);
	info->flops = count_flops(s, x, y);
}

/* ---- operators ---- */

int
nn_n_operators(void)
{
	return nn_n_ops;
}

bool
nn_describe_operator(int i, nn_operator_info *info)
{
	const nn_op *op = &nn_ops[i];

	info->domain = op->domain;
	info->name = op->name;
	info->since = op->since;
	info->until = op->until;
	info->kernel = op->kind == nn_kind_plain ? "plain" : op->kind == nn_kind_alias ? "none" : "vector";
	return strcmp(op->domain, "millrace") != 0;
}

/* ---- times ---- */

typedef struct step_times
{
	double	   *ms;
	double		last;			/* end of the step before */
} step_times;

static double
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return 1e3 * (double) t.tv_sec + 1e-6 * (double) t.tv_nsec;
}

static void
add_time(void *arg, const nn_runner *r, uint32_t step)
{
	step_times *t = arg;
	double		now = now_ms();

	(void) r;
	t->ms[step] += now - t->last;
	t->last = now;
}

mr_code
nn_run_timed(const nn_model *m, const mr_env *env, void *workspace, int batch, const void *const *inputs,
			 void *const *outputs, double *ms, mr_status *st)
{
	step_times	t = {ms, now_ms()};
	nn_observer observer = {add_time, &t};

	return nn_run_observed(m, env, workspace, batch, inputs, outputs, &observer, st);
}
