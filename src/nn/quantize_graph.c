/*
 * quantize_graph.c
 *	  What becomes int8: layers with constant weights, and what lies between them.
 *
 * A layer reads its input as 8 bits.  Backwards from there, nodes that only move,
 * pool or add values compute on 8 bits too, up to the layer or the float
 * operator that made them.  Nodes that move values unchanged (Concat, MaxPool,
 * Reshape ...) have one scale on both sides, so that they stay copies.
 */
#include <string.h>

#include "nn/quantize_impl.h"

static bool
is_layer(const nn_graph *g, const nn_node *n)
{
	if (n->n_in < 2 || g->values[n->in[0]].data)
		return false;
	switch (n->op->kind)
	{
		case nn_kind_conv:
			return nn_conv_lowers(g, n);
		case nn_kind_gemm:
		case nn_kind_matmul:
			return nn_gemm_lowers(g, n);
		default:
			return false;
	}
}

static bool
named(const nn_node *n, const char *name)
{
	return strcmp(n->op_type, name) == 0;
}

typedef enum pass
{
	pass_no,					/* computes in float32 */
	pass_through,				/* 8 bits in and out, scales of their own */
	pass_tied					/* one scale: values are moved, not changed */
} pass;

static pass
passes(const nn_graph *g, const nn_node *n)
{
	const nn_attr *mode;

	if (g->values[n->in[0]].dtype != nn_float32 || g->values[n->in[0]].data)
		return pass_no;
	switch (n->op->kind)
	{
		case nn_kind_binary:
			return n->params.i[0] == nn_add && n->n_in == 2 && !g->values[n->in[1]].data &&
				nn_shape_equal(&g->values[n->in[0]].shape, &g->values[n->in[1]].shape) ? pass_through : pass_no;
		case nn_kind_avgpool:
		case nn_kind_global_avgpool:
			return pass_through;
		case nn_kind_maxpool:
			return n->n_out == 1 ? pass_tied : pass_no;
		case nn_kind_global_maxpool:
		case nn_kind_alias:
		case nn_kind_slice:
			return pass_tied;
		case nn_kind_pad:
			return n->params.i[16] == 0 && n->params.f[0] == 0 ? pass_tied : pass_no;
		case nn_kind_concat:
			for (int k = 0; k < n->n_in; k++)
				if (g->values[n->in[k]].data)
					return pass_no;
			return pass_tied;
		default:
			break;
	}
	if (named(n, "Transpose") || named(n, "Split") || named(n, "DepthToSpace") || named(n, "SpaceToDepth"))
		return pass_tied;
	if (named(n, "Resize") || named(n, "Upsample"))
	{
		mode = nn_find_attr(n, "mode");
		return mode == NULL || (mode->s.len == 7 && memcmp(mode->s.p, "nearest", 7) == 0) ? pass_tied : pass_no;
	}
	return pass_no;
}

int
nn_quant_group(const nn_quantizer *q, int value)
{
	while (q->group[value] != value)
		value = q->group[value];
	return value;
}

void
nn_quant_mark(nn_quantizer *q)
{
	const nn_graph *g = &q->g;

	memset(q->node, 0, (size_t) g->n_nodes * sizeof(bool));
	memset(q->value, 0, (size_t) g->n_values * sizeof(bool));
	for (int i = 0; i < q->n_layers; i++)
		q->node[q->layers[i].node] = !q->layers[i].kept;
	/* readers stand behind: from the last node to the first */
	for (int i = g->n_nodes - 1; i >= 0; i--)
	{
		const nn_node *n = &g->nodes[i];

		if (n->dead)
			continue;
		if (!q->node[i])
		{
			bool		wanted = false;

			for (int k = 0; k < n->n_out; k++)
				wanted = wanted || (n->out[k] >= 0 && q->value[n->out[k]]);
			if (!wanted || n->n_in == 0 || n->in[0] < 0 || is_layer(g, n) || passes(g, n) == pass_no)
				continue;
			q->node[i] = true;
		}
		for (int k = 0; k < n->n_in; k++)
			if (n->in[k] >= 0 && !g->values[n->in[k]].data && g->values[n->in[k]].dtype == nn_float32)
				q->value[n->in[k]] = true;
		/* all sides of a copy, or none */
		for (int k = 0; k < n->n_out; k++)
			if (n->out[k] >= 0 && !is_layer(g, n))
				q->value[n->out[k]] = true;
	}
}

static void
tie(nn_quantizer *q, int a, int b)
{
	q->group[nn_quant_group(q, a)] = nn_quant_group(q, b);
}

static const char *
layer_name(const nn_graph *g, const nn_node *n)
{
	return n->name[0] ? n->name : g->values[n->out[0]].name;
}

/* Which names the options keep; the first and the last layer. */
static mr_code
keep_by_name(nn_quantizer *q)
{
	const nn_quant_options *o = &q->options;
	char		buf[64];

	for (int k = 0; k < o->n_keep; k++)
	{
		bool		found = false;

		for (int i = 0; i < q->n_layers; i++)
			if (strcmp(q->layers[i].name, o->keep[k]) == 0)
				q->layers[i].kept = found = true;
		if (!found)
		{
			mr_fail(q->g.st, MR_INVALID, "the model has no layer \"%s\" to keep", nn_printable(o->keep[k], buf));
			mr_hint(q->g.st, "Layers are named as their nodes: the first is \"%s\".", nn_printable(q->layers[0].name, buf));
			return MR_INVALID;
		}
	}
	if (o->keep_first)
		q->layers[0].kept = true;
	if (o->keep_last)
		q->layers[q->n_layers - 1].kept = true;
	return MR_OK;
}

mr_code
nn_quant_layers(nn_quantizer *q)
{
	nn_graph   *g = &q->g;
	size_t		n = (size_t) g->n_values + 1;

	q->layers = nn_heap_alloc(g->heap, (size_t) g->n_nodes + 1, sizeof(nn_quant_layer));
	q->node = nn_heap_alloc(g->heap, (size_t) g->n_nodes + 1, sizeof(bool));
	q->value = nn_heap_alloc(g->heap, n, sizeof(bool));
	q->group = nn_heap_alloc(g->heap, n, sizeof(int));
	q->range = nn_heap_alloc(g->heap, n, sizeof(nn_range *));
	q->scale = nn_heap_alloc(g->heap, n, sizeof(float));
	q->zero = nn_heap_alloc(g->heap, n, sizeof(int));
	if (!q->layers || !q->node || !q->value || !q->group || !q->range || !q->scale || !q->zero)
		return g->st->code;
	for (int i = 0; i < g->n_values; i++)
		q->group[i] = i;
	for (int i = 0; i < g->n_nodes; i++)
		if (g->nodes[i].op->run == nn_run_quantize || g->nodes[i].op->run == nn_run_dequantize ||
			g->nodes[i].op->run == nn_run_dynamic_quantize)
			return nn_node_fail(g, &g->nodes[i], MR_INVALID, "the model is quantized already");
		else if (!g->nodes[i].dead && is_layer(g, &g->nodes[i]))
		{
			nn_quant_layer *l = &q->layers[q->n_layers++];

			l->node = i;
			l->name = layer_name(g, &g->nodes[i]);
			l->error = -1;
		}
	if (q->n_layers == 0)
		return mr_fail(g->st, MR_UNSUPPORTED, "the model has no layer that can be int8");
	NN_TRY(keep_by_name(q));
	for (int i = 0; i < q->n_layers && q->layers[i].kept; i++)
		if (i == q->n_layers - 1)
			return mr_fail(g->st, MR_INVALID, "all %d layers of the model would be kept in float32", q->n_layers);
	nn_quant_mark(q);
	for (int i = 0; i < g->n_nodes; i++)
	{
		const nn_node *node = &g->nodes[i];

		if (node->dead || !q->node[i] || is_layer(g, node) || passes(g, node) != pass_tied)
			continue;
		for (int k = 0; k < node->n_in; k++)
			if (node->in[k] >= 0 && q->value[node->in[k]])
				for (int o = 0; o < node->n_out; o++)
					if (node->out[o] >= 0)
						tie(q, node->in[k], node->out[o]);
	}
	for (int i = 0; i < g->n_values; i++)
	{
		int			to = nn_quant_group(q, i);

		if (q->value[i] && q->range[to] == NULL &&
			(q->range[to] = nn_heap_alloc(g->heap, 1, sizeof(nn_range))) == NULL)
			return g->st->code;
	}
	return MR_OK;
}
