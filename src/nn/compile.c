/*
 * compile.c
 *	  nn_check() and nn_compile(): the passes in order.
 *
 *	read -> infer with batch 2 -> infer with batch 1 -> fuse -> lower -> arena -> emit
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
load(nn_graph *g, const uint8_t *onnx, size_t len)
{
	batch_probe probe = {0};
	mr_status	quiet;
	mr_status  *st = g->st;
	bool		batched = false;
	int			n_values;

	NN_TRY(nn_read_onnx(g, onnx, len));
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
	NN_TRY(nn_infer(g, 1));
	for (int i = 0; probe.valid && i < g->n_outputs; i++)
	{
		nn_value   *v = &g->values[g->outputs[i]];

		v->batch = v->batch || (v->shape.rank > 0 && v->shape.rank == probe.shape[i].rank && v->shape.dims[0] == 1 &&
								probe.shape[i].dims[0] == 2);
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
	return load(g, onnx, len);
}

mr_code
nn_compile(const mr_env *env, const uint8_t *onnx, size_t len, const nn_options *opt,
		   uint8_t **file, size_t *file_len, mr_status *st)
{
	nn_options	options = opt ? *opt : nn_default_options;
	mr_status	own;
	nn_heap		heap;
	nn_graph	g;
	nn_planner	p;
	mr_code		rc;

	*file = NULL;
	*file_len = 0;
	start(&g, &heap, env, &options, len, st ? st : &own);
	memset(&p, 0, sizeof(p));
	p.g = &g;
	p.isa = options.isa == nn_isa_auto ? nn_isa_best() : options.isa;
	p.k = nn_kernels_for(p.isa);
	if (p.k == NULL)
		return mr_fail(st, MR_UNSUPPORTED, "this machine has no instruction set \"%s\"", nn_isa_name(p.isa));
	p.isa = nn_isa_f32(p.isa);	/* the plan's: all kernels are float32 */
	rc = load(&g, onnx, len);
	if (rc == MR_OK)
		rc = nn_fuse(&g);
	if (rc == MR_OK)
		rc = nn_lower_graph(&p);
	if (rc == MR_OK)
		rc = nn_plan_arena(&p);
	if (rc == MR_OK)
		rc = nn_emit(&p, file, file_len);
	nn_heap_free(&heap);
	return rc;
}

/* ---- nn_check ---- */

static void
describe(const nn_graph *g, int value, nn_tensor_info *info)
{
	const nn_value *v = &g->values[value];

	memset(info, 0, sizeof(*info));
	strncpy(info->name, v->name, NN_NAME_SIZE - 1);
	info->rank = v->shape.rank;
	info->dtype = v->dtype;
	for (int i = 0; i < v->shape.rank; i++)
		info->dims[i] = v->shape.dims[i];
	if (v->batch)
		info->dims[0] = -1;
	info->elements = v->elements;
}

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
		describe(g, g->inputs[out->n_inputs], &out->inputs[out->n_inputs]);
	for (out->n_outputs = 0; out->n_outputs < g->n_outputs; out->n_outputs++)
		describe(g, g->outputs[out->n_outputs], &out->outputs[out->n_outputs]);
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
	rc = load(&g, onnx, len);
	if (rc == MR_OK)
		rc = summarize(&g, out);
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
	memset(s, 0, sizeof(*s));
}
