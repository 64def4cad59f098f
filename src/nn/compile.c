/*
 * compile.c
 *	  nn_check() and nn_compile(): the passes in order.
 *
 *	read -> bind a class -> infer with batch 2 -> infer with batch 1 -> fuse -> lower -> arena -> emit
 *
 * All of it once for each class of shapes, then the plans become one file.
 */
#include <string.h>

#include "nn/plan.h"

/* Which outputs grow with the batch: their first dimension with 2 against 1. */
typedef struct batch_probe
{
	bool		valid;			/* the graph accepts a batch of 2 */
	nn_shape	shape[NN_MAX_PORTS];
} batch_probe;

/*
 * Read and infer.  A graph that only works with a batch of 1 (a Reshape to
 * fixed numbers, say) is fine: a run is one image at a time anyway.
 */
static mr_code
load(nn_graph *g, const uint8_t *onnx, size_t len, const nn_class *class)
{
	batch_probe probe = {0};
	mr_status	quiet;
	mr_status  *st = g->st;
	bool		batched = false;
	int			n_values;

	NN_TRY(nn_read_onnx(g, onnx, len));
	NN_TRY(nn_bind_class(g, class));
	n_values = g->n_values;
	for (int i = 0; i < g->n_inputs; i++)
		batched = batched || g->values[g->inputs[i]].batch;
	if (batched)
	{
		mr_code		rc;

		g->st = g->heap->st = &quiet;
		rc = nn_infer(g, 2);
		g->st = g->heap->st = st;
		if (rc == MR_CANCELED || rc == MR_NOMEM)
		{
			*st = quiet;
			return rc;
		}
		probe.valid = rc == MR_OK;
		for (int i = 0; i < g->n_outputs; i++)
			probe.shape[i] = g->values[g->outputs[i]].shape;
		/* forget what that inference found */
		for (int i = 0; i < n_values; i++)
			if (!g->values[i].initializer && g->values[i].producer >= 0)
				g->values[i].dtype = nn_none;
	}
	g->need = -1;
	NN_TRY(nn_infer(g, 1));
	for (int i = 0; probe.valid && i < g->n_outputs; i++)
	{
		nn_value   *v = &g->values[g->outputs[i]];

		v->batch = v->batch || (v->shape.rank > 0 && v->shape.rank == probe.shape[i].rank && v->shape.dims[0] == 1 &&
								probe.shape[i].dims[0] == 2 && !v->dynamic[0]);
	}
	for (int i = 0; i < g->n_outputs; i++)
	{
		const nn_value *v = &g->values[g->outputs[i]];
		char		buf[64];

		if (strlen(v->name) >= NN_NAME_SIZE)
			return mr_fail(st, MR_UNSUPPORTED, "the name of output \"%s\" is too long", nn_printable(v->name, buf));
	}
	return MR_OK;
}

/* The heap may hold the weights a few times over, and folded constants. */
static size_t
heap_limit(const nn_options *opt, size_t len)
{
	size_t		more = len > SIZE_MAX / 16 ? SIZE_MAX / 2 : len * 8 + ((size_t) 16 << 20);

	return opt->max_memory > SIZE_MAX / 4 - more ? SIZE_MAX / 4 : opt->max_memory + more;
}

static void
start(nn_graph *g, nn_heap *heap, const mr_env *env, const nn_options *opt, size_t len, mr_status *st)
{
	memset(g, 0, sizeof(*g));
	nn_heap_init(heap, env, heap_limit(opt, len), st);
	g->heap = heap;
	g->env = env;
	g->st = st;
	g->opt = opt;
}

mr_code
nn_graph_open(nn_graph *g, nn_heap *heap, const mr_env *env, const uint8_t *onnx, size_t len, const nn_options *opt,
			  mr_status *st)
{
	start(g, heap, env, opt, len, st);
	return load(g, onnx, len, opt->n_classes ? opt->classes : NULL);
}

/* One class: its plan to out, its weights to content.  The instruction set asked
 * for becomes the one needed. */
static mr_code
compile_class(const mr_env *env, const uint8_t *onnx, size_t len, const nn_options *opt, const nn_class *class,
			  nn_isa *isa, nn_content *content, nn_emitted *out, mr_status *st)
{
	nn_heap		heap;
	nn_graph	g;
	nn_planner	p;
	mr_code		rc;

	start(&g, &heap, env, opt, len, st);
	memset(&p, 0, sizeof(p));
	p.g = &g;
	p.isa_asked = *isa;
	p.isa = nn_isa_f32(*isa);
	p.k = nn_kernels_for(*isa);
	rc = load(&g, onnx, len, class);
	if (opt->need)
		*opt->need = rc == MR_UNSUPPORTED ? g.need : -1;
	if (rc == MR_OK)
		rc = nn_fuse(&g);
	if (rc == MR_OK)
		rc = nn_lower_graph(&p);
	if (rc == MR_OK)
		rc = nn_plan_arena(&p);
	if (rc == MR_OK)
		rc = nn_emit_plan(&p, content, out);
	*isa = nn_plan_isa(&p);
	nn_heap_free(&heap);
	return rc;
}

mr_code
nn_compile(const mr_env *env, const uint8_t *onnx, size_t len, const nn_options *opt,
		   uint8_t **file, size_t *file_len, mr_status *st)
{
	nn_options	options = opt ? *opt : nn_default_options;
	int			n = options.n_classes ? options.n_classes : 1;
	nn_isa		isa = options.isa == nn_isa_auto ? nn_isa_best() : options.isa;
	nn_isa		needed = nn_isa_portable;
	nn_content	content = {.env = env};
	nn_emitted *plans;
	mr_status	own;
	mr_code		rc = MR_OK;

	*file = NULL;
	*file_len = 0;
	st = st ? st : &own;
	if (options.need)
		*options.need = -1;
	if (nn_kernels_for(isa) == NULL)
		return mr_fail(st, MR_UNSUPPORTED, "this machine has no instruction set \"%s\"", nn_isa_name(isa));
	if (n < 1 || n > NN_MAX_CLASSES)
		return mr_fail(st, MR_LIMIT, "a model may have %d classes of shapes, not %d", NN_MAX_CLASSES, n);
	plans = mr_alloc(env, (size_t) n * sizeof(*plans));
	if (plans == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory while compiling the model");
	memset(plans, 0, (size_t) n * sizeof(*plans));
	for (int i = 0; i < n && rc == MR_OK; i++)
	{
		nn_isa		used = isa;

		rc = compile_class(env, onnx, len, &options, options.n_classes ? &options.classes[i] : NULL, &used, &content,
						   &plans[i], st);
		needed = used > needed ? used : needed;
	}
	if (rc == MR_OK)
		rc = nn_emit_file(env, needed, n, plans, &content, file, file_len, st);
	nn_content_free(&content);
	for (int i = 0; i < n; i++)
		mr_free(env, plans[i].bytes);
	mr_free(env, plans);
	return rc;
}

void
nn_describe_port(const nn_graph *g, int i, nn_tensor_info *info)
{
	bool		input = i < g->n_inputs;
	const nn_value *v = &g->values[input ? g->inputs[i] : g->outputs[i - g->n_inputs]];

	memset(info, 0, sizeof(*info));
	strncpy(info->name, v->name, NN_NAME_SIZE - 1);
	info->rank = v->shape.rank;
	info->dtype = v->dtype;
	info->elements = v->elements;
	for (int k = 0; k < v->shape.rank; k++)
	{
		info->dims[k] = v->shape.dims[k];
		info->declared[k] = input && g->decls[i].shaped ? g->decls[i].shape.dims[k] : -1;
		info->dynamic[k] = v->dynamic[k];
	}
	if (v->batch)
		info->dims[0] = -1;
}

/* ---- nn_check ---- */

static mr_code
summarize(const nn_graph *g, nn_summary *out)
{
	const mr_env *env = g->env;
	size_t		producer = strlen(g->producer) + 1;
	bool		seen[512] = {false};

	out->opset = g->opset ? g->opset : g->opset_ml;
	out->ir_version = g->ir_version;
	out->n_parameters = g->n_parameters;
	out->n_nodes = g->n_nodes;
	out->inputs = mr_alloc(env, (size_t) (g->n_inputs + 1) * sizeof(nn_tensor_info));
	out->outputs = mr_alloc(env, (size_t) (g->n_outputs + 1) * sizeof(nn_tensor_info));
	out->operators = mr_alloc(env, (size_t) nn_n_ops * sizeof(char *));
	out->producer = mr_alloc(env, producer);
	if (!out->inputs || !out->outputs || !out->operators || !out->producer)
		return mr_fail(g->st, MR_NOMEM, "out of memory");
	memcpy(out->producer, g->producer, producer);
	for (out->n_inputs = 0; out->n_inputs < g->n_inputs; out->n_inputs++)
		nn_describe_port(g, out->n_inputs, &out->inputs[out->n_inputs]);
	for (out->n_outputs = 0; out->n_outputs < g->n_outputs; out->n_outputs++)
		nn_describe_port(g, g->n_inputs + out->n_outputs, &out->outputs[out->n_outputs]);
	for (int i = 0; i < g->n_nodes; i++)
	{
		/* lines of one operator stand together in the table: name the first */
		const nn_op *op = g->nodes[i].op;

		while (op > nn_ops && strcmp(op[-1].name, op->name) == 0)
			op--;
		if (op - nn_ops < 512 && !seen[op - nn_ops])
		{
			seen[op - nn_ops] = true;
			out->operators[out->n_operators++] = op->name;
		}
	}
	return MR_OK;
}

mr_code
nn_check(const mr_env *env, const uint8_t *onnx, size_t len, const nn_options *opt,
		 nn_summary *out, mr_status *st)
{
	nn_options	options = opt ? *opt : nn_default_options;
	mr_status	own;
	nn_heap		heap;
	nn_graph	g;
	mr_code		rc;

	memset(out, 0, sizeof(*out));
	start(&g, &heap, env, &options, len, st ? st : &own);
	rc = load(&g, onnx, len, options.n_classes ? options.classes : NULL);
	if (options.need)
		*options.need = rc == MR_UNSUPPORTED ? g.need : -1;
	if (rc == MR_OK)
		rc = summarize(&g, out);
	if (rc == MR_OK)
		rc = nn_find_answer(&g, out);
	nn_heap_free(&heap);
	if (rc != MR_OK)
		nn_summary_free(env, out);
	return rc;
}

void
nn_summary_free(const mr_env *env, nn_summary *s)
{
	mr_free(env, s->inputs);
	mr_free(env, s->outputs);
	mr_free(env, (void *) s->operators);
	mr_free(env, s->producer);
	for (int i = 0; i < s->answer.n_labels; i++)
		mr_free(env, s->answer.labels[i]);
	mr_free(env, s->answer.labels);
	memset(s, 0, sizeof(*s));
}
