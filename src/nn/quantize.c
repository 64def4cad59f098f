/*
 * quantize.c
 *	  The quantizer: calibration runs, builds, agreement, layers kept float32.
 *
 * Calibration runs the float32 plan of the lightly fused graph with an observer,
 * which sees every tensor right after the step that completes it: no plain
 * interpretation, no tensor more in memory than a run has anyway.
 */
#include "nn/quantize.h"

#include <math.h>
#include <string.h>

#include "nn/quantize_impl.h"
#include "nn/steps.h"

const nn_quant_options nn_quant_defaults = {
	.method = nn_quant_percentile,
	.percentile = 99.999,
	.min_cosine = 0.99,
	.max_kept = 8,
};

bool
nn_quant_method_by_name(const char *name, nn_quant_method *method)
{
	static const char *const names[] = {"minmax", "percentile", "entropy"};

	for (int i = 0; i < 3; i++)
		if (strcmp(name, names[i]) == 0)
		{
			*method = (nn_quant_method) i;
			return true;
		}
	return false;
}

/* Failures go to the caller's status, which differs from call to call. */
static void
report_to(nn_quantizer *q, mr_status *st)
{
	q->g.st = q->heap.st = st;
}

static void *
take(nn_quantizer *q, size_t size)
{
	void	   *p = mr_alloc(q->env, (size + 63) & ~(size_t) 63);

	if (p == NULL)
		mr_fail(q->g.st, MR_NOMEM, "out of memory while quantizing a model");
	return p;
}

/* ---- opening ---- */

/* The float32 plan, and where each value is complete in it. */
static mr_code
plan_float(nn_quantizer *q)
{
	nn_graph   *g = &q->g;
	nn_planner *p = &q->p;

	p->g = g;
	p->observed = true;
	p->isa_asked = p->isa = nn_isa_f32(q->opt.isa == nn_isa_auto ? nn_isa_best() : q->opt.isa);
	p->k = nn_kernels_for(p->isa);
	if (p->k == NULL)
		return mr_fail(g->st, MR_UNSUPPORTED, "this machine has no instruction set \"%s\"", nn_isa_name(p->isa));
	NN_TRY(nn_lower_graph(p));
	/* the arena's planner changes what a tensor's value is where memory is shared */
	q->value_of = nn_heap_alloc(g->heap, (size_t) p->n_tensors + 1, sizeof(int));
	q->last_step = nn_heap_alloc(g->heap, (size_t) g->n_values + 1, sizeof(uint32_t));
	if (!q->value_of || !q->last_step)
		return g->st->code;
	for (int i = 0; i < p->n_tensors; i++)
		q->value_of[i] = p->tensors[i].value;
	for (int i = 0; i < p->n_steps; i++)
	{
		const nn_fstep *s = &p->steps[i].s;

		for (int k = s->n_in; k < s->n_in + s->n_out; k++)
		{
			int			t = p->operands[s->operands + (uint32_t) k];

			if (t >= 0)
				q->last_step[q->value_of[t]] = (uint32_t) i;
		}
	}
	NN_TRY(nn_plan_arena(p));
	NN_TRY(nn_emit(p, &q->file, &(size_t) {0}));
	return MR_OK;
}

static mr_code
open_float(nn_quantizer *q)
{
	nn_graph   *g = &q->g;
	const nn_tensor_info *out;

	NN_TRY(nn_open(q->file, ((const nn_file_header *) (const void *) q->file)->total_len, &q->model, g->st));
	if (q->options.output < 0 || q->options.output >= nn_n_outputs(&q->model))
		return mr_fail(g->st, MR_INVALID, "the model has no output %d", q->options.output);
	out = nn_output(&q->model, q->options.output);
	if (out->dtype != nn_float32 || out->elements < 1)
		return mr_fail(g->st, MR_UNSUPPORTED, "output \"%.100s\" is not float32: it cannot be compared", out->name);
	if ((q->work = take(q, nn_workspace(&q->model))) == NULL ||
		(q->output8 = take(q, (size_t) out->elements * sizeof(float))) == NULL)
		return g->st->code;
	for (int i = 0; i < nn_n_outputs(&q->model); i++)
	{
		const nn_tensor_info *t = nn_output(&q->model, i);

		if ((q->outputs[i] = take(q, (size_t) t->elements * nn_dtype_size(t->dtype) + 1)) == NULL)
			return g->st->code;
	}
	return MR_OK;
}

mr_code
nn_quantizer_open(const mr_env *env, const uint8_t *onnx, size_t len, const nn_options *opt,
				  const nn_quant_options *options, nn_quantizer **out, mr_status *st)
{
	nn_quantizer *q = mr_alloc(env, sizeof(*q));
	mr_code		rc;

	*out = NULL;
	if (q == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory while quantizing a model");
	memset(q, 0, sizeof(*q));
	q->env = env;
	q->opt = opt ? *opt : nn_default_options;
	q->opt.precision = nn_float32;
	q->options = options ? *options : nn_quant_defaults;
	rc = nn_graph_open(&q->g, &q->heap, env, onnx, len, &q->opt, st);
	q->opt.n_classes = 0;		/* what is written has the shapes of the first */
	if (rc == MR_OK)
		rc = nn_fuse_lightly(&q->g);
	if (rc == MR_OK)
		rc = nn_quant_layers(q);
	if (rc == MR_OK)
		rc = plan_float(q);
	if (rc == MR_OK)
		rc = open_float(q);
	if (rc != MR_OK)
	{
		nn_quantizer_close(q);
		return rc;
	}
	*out = q;
	return MR_OK;
}

static void
forget_build(nn_quantizer *q)
{
	mr_free(q->env, q->onnx);
	mr_free(q->env, q->file8);
	mr_free(q->env, q->work8);
	q->onnx = q->file8 = NULL;
	q->work8 = NULL;
}

void
nn_quantizer_close(nn_quantizer *q)
{
	if (q == NULL)
		return;
	forget_build(q);
	for (int i = 0; i < q->n_probes; i++)
	{
		for (int k = 0; k < q->g.n_inputs; k++)
			mr_free(q->env, (void *) (uintptr_t) q->probes[i].inputs[k]);
		mr_free(q->env, q->probes[i].output);
	}
	for (int i = 0; i < NN_MAX_PORTS; i++)
		mr_free(q->env, q->outputs[i]);
	mr_free(q->env, q->output8);
	mr_free(q->env, q->work);
	mr_free(q->env, q->file);
	nn_heap_free(&q->heap);
	mr_free(q->env, q);
}

/* ---- calibration ---- */

static void
add_blocked(nn_range *r, const nn_view *v)
{
	float		some[NN_LANES * 64];

	for (int b = 0; b < nn_blocks(v->c); b++)
	{
		int			lanes = v->c - b * NN_LANES < NN_LANES ? v->c - b * NN_LANES : NN_LANES;

		for (int y = 0; y < v->h; y++)
		{
			const float *row = v->data + (size_t) b * v->blk_pitch + (size_t) y * v->row_pitch;

			if (lanes == NN_LANES)
			{
				nn_range_add(r, row, (size_t) v->w * NN_LANES);
				continue;
			}
			for (int x0 = 0; x0 < v->w; x0 += 64)
			{
				int			n = v->w - x0 < 64 ? v->w - x0 : 64;

				for (int x = 0; x < n; x++)
					memcpy(some + x * lanes, row + (x0 + x) * NN_LANES, (size_t) lanes * sizeof(float));
				nn_range_add(r, some, (size_t) (n * lanes));
			}
		}
	}
}

static void
watch(void *arg, const nn_runner *r, uint32_t step)
{
	nn_quantizer *q = arg;
	const nn_fstep *s = &q->p.steps[step].s;

	for (int k = s->n_in; k < s->n_in + s->n_out; k++)
	{
		int			t = q->p.operands[s->operands + (uint32_t) k];
		int			v = t < 0 ? -1 : q->value_of[t];
		nn_range   *range = v < 0 ? NULL : q->range[nn_quant_group(q, v)];
		nn_view		view;

		if (range == NULL || !q->value[v] || q->last_step[v] != step)
			continue;
		view = nn_tensor_view(&r->tensors[t], nn_step_address(r, &r->tensors[t]));
		if (r->tensors[t].blocked)
			add_blocked(range, &view);
		else
			nn_range_add(range, view.data, (size_t) r->tensors[t].elements);
	}
}

/* A copy of a sample for ordering the layers, if that should be needed. */
static mr_code
keep_probe(nn_quantizer *q, const void *const *inputs)
{
	nn_quant_probe *probe = &q->probes[q->n_probes];
	size_t		bytes = (size_t) nn_output(&q->model, q->options.output)->elements * sizeof(float);

	memset(probe, 0, sizeof(*probe));
	q->n_probes++;
	for (int i = 0; i < q->g.n_inputs; i++)
	{
		const nn_tensor_info *t = nn_input(&q->model, i);
		size_t		size = (size_t) t->elements * nn_dtype_size(t->dtype);
		void	   *copy = take(q, size + 1);

		if (copy == NULL)
			return q->g.st->code;
		memcpy(copy, inputs[i], size);
		probe->inputs[i] = copy;
	}
	if ((probe->output = take(q, bytes)) == NULL)
		return q->g.st->code;
	memcpy(probe->output, q->outputs[q->options.output], bytes);
	return MR_OK;
}

mr_code
nn_quantizer_observe(nn_quantizer *q, const void *const *inputs, mr_status *st)
{
	nn_observer observer = {watch, q};
	char		buf[64];

	report_to(q, st);
	for (int i = 0; i < q->g.n_inputs; i++)
	{
		int			v = q->g.inputs[i];

		if (q->value[v])
			nn_range_add(q->range[nn_quant_group(q, v)], inputs[i], (size_t) q->g.values[v].elements);
	}
	NN_TRY(nn_run_observed(&q->model, q->env, q->work, 1, inputs, q->outputs, &observer, st));
	for (int v = 0; v < q->g.n_values; v++)
		if (q->range[v] && q->range[v]->not_finite)
			return mr_fail(st, MR_INVALID, "tensor \"%s\" of the model becomes infinite or NaN for this input",
						   nn_printable(q->g.values[v].name, buf));
	return q->n_probes < NN_QUANT_PROBES ? keep_probe(q, inputs) : MR_OK;
}

static mr_code
find_scales(nn_quantizer *q)
{
	char		buf[64];

	for (int v = 0; v < q->g.n_values; v++)
	{
		float		lo,
					hi;

		if (q->range[v] == NULL)
			continue;
		if (q->range[v]->seen == 0)
			return q->n_probes == 0 ? mr_fail(q->g.st, MR_INVALID, "there are no samples to calibrate with") :
				mr_fail(q->g.st, MR_INTERNAL, "tensor \"%s\" was not seen", nn_printable(q->g.values[v].name, buf));
		if (mr_interrupted(q->env))
			return mr_fail(q->g.st, MR_CANCELED, "canceled");
		nn_range_limits(q->range[v], q->options.method, q->options.percentile, &lo, &hi);
		nn_range_scale(lo, hi, &q->scale[v], &q->zero[v]);
	}
	q->ranged = true;
	return MR_OK;
}

/* ---- building and comparing ---- */

mr_code
nn_quantizer_build(nn_quantizer *q, mr_status *st)
{
	size_t		len;

	report_to(q, st);
	if (!q->ranged)
		NN_TRY(find_scales(q));
	forget_build(q);
	memset(&q->agreement, 0, sizeof(q->agreement));
	q->agreement.min_cosine = 1;
	nn_quant_mark(q);
	NN_TRY(nn_quant_write(q, &q->onnx, &q->onnx_len));
	NN_TRY(nn_compile(q->env, q->onnx, q->onnx_len, &q->opt, &q->file8, &len, st));
	NN_TRY(nn_open(q->file8, len, &q->model8, st));
	q->work8 = take(q, nn_workspace(&q->model8));
	return q->work8 ? MR_OK : st->code;
}

static void
add_agreement(nn_agreement *a, const float *f, const float *i, int64_t n)
{
	double		dot = 0,
				ff = 0,
				ii = 0,
				cosine;
	int64_t		best_f = 0,
				best_i = 0;

	for (int64_t k = 0; k < n; k++)
	{
		dot += (double) f[k] * i[k];
		ff += (double) f[k] * f[k];
		ii += (double) i[k] * i[k];
		best_f = f[k] > f[best_f] ? k : best_f;
		best_i = i[k] > i[best_i] ? k : best_i;
		a->max_error = fmax(a->max_error, fabs((double) f[k] - i[k]));
		a->max_value = fmax(a->max_value, fabs((double) f[k]));
	}
	cosine = ff > 0 && ii > 0 ? dot / sqrt(ff * ii) : ff == ii;
	a->rows++;
	a->top1 += best_f == best_i;
	a->cosine += cosine;
	a->min_cosine = fmin(a->min_cosine, cosine);
}

/* The answer of the last build, in q->output8. */
static mr_code
run_int8(nn_quantizer *q, const void *const *inputs)
{
	void	   *outputs[NN_MAX_PORTS] = {0};

	outputs[q->options.output] = q->output8;
	return nn_run_typed(&q->model8, q->env, q->work8, 1, inputs, outputs, q->g.st);
}

mr_code
nn_quantizer_compare(nn_quantizer *q, const void *const *inputs, mr_status *st)
{
	void	   *outputs[NN_MAX_PORTS] = {0};
	int			o = q->options.output;

	report_to(q, st);
	outputs[o] = q->outputs[o];
	NN_TRY(nn_run_typed(&q->model, q->env, q->work, 1, inputs, outputs, st));
	NN_TRY(run_int8(q, inputs));
	add_agreement(&q->agreement, outputs[o], q->output8, nn_output(&q->model, o)->elements);
	return MR_OK;
}

/* ---- layers that stay float32 ---- */

/* Each layer alone in int8: how far is the answer off? */
static mr_code
order_layers(nn_quantizer *q)
{
	bool	   *kept = nn_heap_alloc(&q->heap, (size_t) q->n_layers, sizeof(bool));
	mr_code		rc = MR_OK;

	if (kept == NULL)
		return q->g.st->code;
	for (int i = 0; i < q->n_layers; i++)
	{
		kept[i] = q->layers[i].kept;
		q->layers[i].kept = true;
	}
	for (int i = 0; i < q->n_layers && rc == MR_OK; i++)
	{
		if (kept[i])
			continue;
		q->layers[i].kept = false;
		rc = nn_quantizer_build(q, q->g.st);
		for (int p = 0; p < q->n_probes && rc == MR_OK; p++)
		{
			rc = run_int8(q, q->probes[p].inputs);
			if (rc == MR_OK)
				add_agreement(&q->agreement, q->probes[p].output, q->output8,
							  nn_output(&q->model, q->options.output)->elements);
		}
		if (rc == MR_OK)
			q->layers[i].error = 1 - q->agreement.cosine / (double) q->agreement.rows;
		q->layers[i].kept = true;
	}
	for (int i = 0; i < q->n_layers; i++)
		q->layers[i].kept = kept[i];
	q->ordered = rc == MR_OK;
	return rc;
}

mr_code
nn_quantizer_next(nn_quantizer *q, bool *again, mr_status *st)
{
	const nn_agreement *a = &q->agreement;
	double		reached = a->rows ? a->cosine / (double) a->rows : 1;
	int			worst = -1,
				kept = 0;

	report_to(q, st);
	*again = false;
	if (reached >= q->options.min_cosine)
		return MR_OK;
	for (int i = 0; i < q->n_layers; i++)
		kept += q->layers[i].kept && q->layers[i].error >= 0;
	if (kept < q->options.max_kept && !q->ordered)
		NN_TRY(order_layers(q));
	for (int i = 0; i < q->n_layers; i++)
		if (!q->layers[i].kept && (worst < 0 || q->layers[i].error > q->layers[worst].error))
			worst = i;
	if (kept >= q->options.max_kept || worst < 0)
	{
		mr_fail(st, MR_INVALID, "the int8 model agrees with the float32 model by a cosine of %.8f only, %.8f are asked for",
				reached, q->options.min_cosine);
		mr_detail(st, "%d of %d layers were kept in float32 to reach it.", kept, q->n_layers);
		mr_hint(st, "Try more calibration rows, another method, a larger max_layers_kept, or a smaller min_cosine.");
		return MR_INVALID;
	}
	q->layers[worst].kept = true;
	*again = true;
	return MR_OK;
}

/* ---- results ---- */

const nn_model *
nn_quantizer_model(const nn_quantizer *q)
{
	return &q->model;
}

const uint8_t *
nn_quantizer_bytes(const nn_quantizer *q, size_t *len)
{
	*len = q->onnx_len;
	return q->onnx;
}

const nn_agreement *
nn_quantizer_agreement(const nn_quantizer *q)
{
	return &q->agreement;
}

int
nn_quantizer_n_layers(const nn_quantizer *q)
{
	return q->n_layers;
}

const char *
nn_quantizer_layer(const nn_quantizer *q, int i, bool *kept)
{
	*kept = q->layers[i].kept;
	return q->layers[i].name;
}
