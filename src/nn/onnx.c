/*
 * onnx.c
 *	  Reading an ONNX model into a graph: the graph, its inputs and outputs.
 *
 * The bytes are hostile until proven good: every name, count and size is
 * checked here, in onnx_node.c or in onnx_tensor.c before memory is taken for
 * it, external data is refused, subgraphs and functions too.  Shapes are
 * infer.c's.
 */
#include <stdio.h>
#include <string.h>

#include "nn/onnx.h"
#include "nn/ops.h"

mr_code
nn_onnx_malformed(nn_graph *g, const char *what)
{
	return mr_fail(g->st, MR_INVALID, "malformed ONNX file: bad %s", what);
}

bool
nn_onnx_name(const pb_field *f)
{
	return f->wire == pb_length && f->bytes.len <= NN_MAX_NAME &&
		(f->bytes.len == 0 || memchr(f->bytes.p, 0, f->bytes.len) == NULL);
}

bool
nn_onnx_count(pb_bytes message, uint32_t number, int *count)
{
	pb_reader	r = pb_open(message);
	pb_field	f;

	*count = 0;
	while (pb_next(&r, &f))
		if (f.number == number && (*count)++ == INT32_MAX - 1)
			return false;
	return !r.bad;
}

/* ---- inputs and outputs ---- */

/* TypeProto.Tensor: elem_type 1, shape 2 { dim 1 { dim_value 1, dim_param 2 } }. */
static mr_code
read_type(nn_graph *g, pb_bytes type, const char *name, int32_t *dtype, nn_decl *decl)
{
	pb_reader	r = pb_open(type);
	pb_field	f;
	pb_bytes	tensor = {NULL, 0};
	pb_bytes	shape = {NULL, 0};
	char		buf[64];

	decl->shaped = false;
	while (pb_next(&r, &f))
	{
		if (f.wire != pb_length)
			return nn_onnx_malformed(g, "type");
		if (f.number == 1)
			tensor = f.bytes;
		else if (f.number == 4 || f.number == 5 || f.number == 8 || f.number == 9)
			return mr_fail(g->st, MR_UNSUPPORTED, "input or output \"%s\" is not a dense tensor",
						   nn_printable(name, buf));
	}
	if (r.bad)
		return nn_onnx_malformed(g, "type");
	r = pb_open(tensor);
	while (pb_next(&r, &f))
	{
		if (f.number == 1 && f.wire == pb_varint && f.value < 64)
			*dtype = (int32_t) f.value;
		else if (f.number == 2 && f.wire == pb_length)
		{
			shape = f.bytes;
			decl->shaped = true;
		}
		else if (f.number <= 2)
			return nn_onnx_malformed(g, "type");
	}
	if (r.bad)
		return nn_onnx_malformed(g, "type");
	r = pb_open(shape);
	while (pb_next(&r, &f))
	{
		pb_reader	d;
		int64_t		dim = -1;
		int			at = decl->shape.rank;

		if (f.number != 1 || f.wire != pb_length)
			return nn_onnx_malformed(g, "shape");
		d = pb_open(f.bytes);
		if (at == NN_MAX_RANK)
			return mr_fail(g->st, MR_UNSUPPORTED, "tensor \"%s\" has more than %d dimensions",
						   nn_printable(name, buf), NN_MAX_RANK);
		while (pb_next(&d, &f))
		{
			if (f.number == 1 && f.wire == pb_varint)
				dim = (int64_t) f.value;
			else if (f.number == 2)
			{
				if (!nn_onnx_name(&f))
					return nn_onnx_malformed(g, "shape");
				if (f.bytes.len && (decl->names[at] = nn_copy_string(g, f.bytes)) == NULL)
					return g->st->code;
			}
		}
		if (d.bad)
			return nn_onnx_malformed(g, "shape");
		/* Some exporters write 0 or -1 for an open batch dimension. */
		decl->shape.dims[at] = dim < 0 || (dim == 0 && at == 0) ? -1 : dim;
		decl->shape.rank++;
	}
	return r.bad ? nn_onnx_malformed(g, "shape") : MR_OK;
}

/* A ValueInfoProto: name 1, type 2. */
static mr_code
read_port(nn_graph *g, pb_bytes message, bool input)
{
	pb_reader	r = pb_open(message);
	pb_field	f;
	pb_bytes	name = {NULL, 0};
	pb_bytes	type = {NULL, 0};
	int			value;
	nn_value   *v;
	nn_decl    *decl;
	char		buf[64];

	while (pb_next(&r, &f))
	{
		if (f.number == 1)
		{
			if (!nn_onnx_name(&f) || f.bytes.len == 0)
				return nn_onnx_malformed(g, "input or output name");
			name = f.bytes;
		}
		else if (f.number == 2 && f.wire == pb_length)
			type = f.bytes;
	}
	if (r.bad || name.len == 0)
		return nn_onnx_malformed(g, "input or output");
	if (name.len >= NN_NAME_SIZE)
		return mr_fail(g->st, MR_UNSUPPORTED, "names of inputs and outputs may have %d bytes", NN_NAME_SIZE - 1);
	if (!nn_onnx_utf8(name))
		return nn_onnx_malformed(g, "input or output name");
	value = nn_find_value(g, name);
	if (input && value >= 0)
	{
		if (g->values[value].initializer)
			return MR_OK;		/* IR < 4 lists weights as inputs */
		return mr_fail(g->st, MR_INVALID, "ONNX input \"%s\" is defined twice",
					   nn_printable(g->values[value].name, buf));
	}
	if (!input)
	{
		if (value < 0)
			return mr_fail(g->st, MR_INVALID, "an ONNX graph output is computed by no node");
		if (g->n_outputs == NN_MAX_PORTS)
			return mr_fail(g->st, MR_LIMIT, "the model has more than %d outputs", NN_MAX_PORTS);
		for (int i = 0; i < g->n_outputs; i++)
			if (g->outputs[i] == value)
				return mr_fail(g->st, MR_INVALID, "ONNX output \"%s\" is listed twice",
							   nn_printable(g->values[value].name, buf));
		g->outputs[g->n_outputs++] = value;
		return MR_OK;
	}
	value = nn_add_value(g, name);
	if (value < 0)
		return g->st->code;
	if (g->n_inputs == NN_MAX_PORTS)
		return mr_fail(g->st, MR_LIMIT, "the model has more than %d inputs", NN_MAX_PORTS);
	v = &g->values[value];
	decl = &g->decls[g->n_inputs];
	NN_TRY(read_type(g, type, v->name, &v->declared, decl));
	nn_printable(v->name, buf);
	if (nn_dtype_size(v->declared) == 0)
		return mr_fail(g->st, MR_UNSUPPORTED, "input \"%s\" has type %s, which is not supported", buf,
					   nn_dtype_name((nn_dtype) v->declared));
	v->dtype = nn_onnx_storage(v->declared);
	for (int i = 0; i < decl->shape.rank; i++)
		if (decl->shape.dims[i] > NN_MAX_DIM)
			return mr_fail(g->st, MR_INVALID, "dimension %d of input \"%s\" is %lld", i, buf,
						   (long long) decl->shape.dims[i]);
	g->inputs[g->n_inputs++] = value;
	return MR_OK;
}

/* ---- graph and model ---- */

static mr_code
read_graph(nn_graph *g, pb_bytes message)
{
	pb_reader	r = pb_open(message);
	pb_field	f;
	int			n_nodes;

	if (!nn_onnx_count(message, 1, &n_nodes))
		return nn_onnx_malformed(g, "graph");
	if (n_nodes == 0)
		return mr_fail(g->st, MR_INVALID, "the ONNX graph has no nodes");
	if ((size_t) n_nodes > g->opt->max_nodes)
	{
		mr_fail(g->st, MR_LIMIT, "the ONNX graph has %d nodes, at most %zu are allowed", n_nodes,
				g->opt->max_nodes);
		mr_hint(g->st, "See millrace.nn_max_nodes.");
		return MR_LIMIT;
	}
	g->nodes = nn_heap_alloc(g->heap, (size_t) n_nodes, sizeof(nn_node));
	if (g->nodes == NULL)
		return g->st->code;

	/* Weights, then inputs (which may name weights), then nodes, then outputs. */
	while (pb_next(&r, &f))
	{
		if (f.number == 15)
			return mr_fail(g->st, MR_UNSUPPORTED, "sparse initializers are not supported");
		if (f.number == 5)
		{
			if (f.wire != pb_length)
				return nn_onnx_malformed(g, "initializer");
			NN_TRY(nn_read_initializer(g, f.bytes));
		}
	}
	if (r.bad)
		return nn_onnx_malformed(g, "graph");
	for (int pass = 0; pass < 3; pass++)
	{
		static const uint32_t numbers[] = {11, 1, 12};

		r = pb_open(message);
		while (pb_next(&r, &f))
		{
			if (f.number != numbers[pass])
				continue;
			if (f.wire != pb_length)
				return nn_onnx_malformed(g, "graph");
			if (pass == 1)
			{
				if ((g->n_nodes & 255) == 255 && mr_interrupted(g->env))
					return mr_fail(g->st, MR_CANCELED, "canceled");
				NN_TRY(nn_read_node(g, f.bytes, &g->nodes[g->n_nodes], g->n_nodes));
				g->n_nodes++;
			}
			else
				NN_TRY(read_port(g, f.bytes, pass == 0));
		}
	}
	if (g->n_outputs == 0)
		return mr_fail(g->st, MR_INVALID, "the ONNX graph has no outputs");
	return MR_OK;
}

/* OperatorSetIdProto: domain 1, version 2. */
static mr_code
read_opset(nn_graph *g, pb_bytes message)
{
	pb_reader	r = pb_open(message);
	pb_field	f;
	pb_bytes	domain = {NULL, 0};
	uint64_t	version = 0;

	while (pb_next(&r, &f))
	{
		if (f.number == 1)
		{
			if (!nn_onnx_name(&f))
				return nn_onnx_malformed(g, "opset");
			domain = f.bytes;
		}
		else if (f.number == 2 && f.wire == pb_varint)
			version = f.value;
	}
	if (r.bad || version > 1000)
		return nn_onnx_malformed(g, "opset");
	if (domain.len == 0 || (domain.len == 7 && memcmp(domain.p, "ai.onnx", 7) == 0))
		g->opset = (int) version;
	else if (domain.len == 10 && memcmp(domain.p, "ai.onnx.ml", 10) == 0)
		g->opset_ml = (int) version;
	return MR_OK;
}

mr_code
nn_read_onnx(nn_graph *g, const uint8_t *onnx, size_t len)
{
	pb_bytes	whole = {onnx, len};
	pb_bytes	graph = {NULL, 0};
	pb_bytes	name = {NULL, 0},
				version = {NULL, 0};
	pb_reader	r = pb_open(whole);
	pb_field	f;
	int			n_graphs = 0,
				n_sets = 0;

	if (len > g->opt->max_model_bytes)
	{
		mr_fail(g->st, MR_LIMIT, "the ONNX file has %zu bytes, at most %zu are allowed", len,
				g->opt->max_model_bytes);
		mr_hint(g->st, "See millrace.nn_max_model_bytes.");
		return MR_LIMIT;
	}
	while (pb_next(&r, &f))
	{
		switch (f.number)
		{
			case 1:
				g->ir_version = (int64_t) f.value;
				break;
			case 2:
			case 3:
				if (!nn_onnx_name(&f) || !nn_onnx_utf8(f.bytes))
					return nn_onnx_malformed(g, "producer");
				*(f.number == 2 ? &name : &version) = f.bytes;
				break;
			case 7:
				if (f.wire != pb_length)
					return nn_onnx_malformed(g, "graph");
				graph = f.bytes;
				n_graphs++;
				break;
			case 8:
				if (f.wire != pb_length)
					return nn_onnx_malformed(g, "opset");
				NN_TRY(read_opset(g, f.bytes));
				n_sets++;
				break;
			case 25:
				return mr_fail(g->st, MR_UNSUPPORTED, "ONNX local functions are not supported");
		}
	}
	if (r.bad || n_graphs != 1)
		return mr_fail(g->st, MR_INVALID, "the file is not an ONNX model");
	g->producer = nn_heap_alloc(g->heap, name.len + version.len + 2, 1);
	if (g->producer == NULL)
		return g->st->code;
	snprintf(g->producer, name.len + version.len + 2, "%.*s%s%.*s", (int) name.len,
			 name.len ? (const char *) name.p : "", version.len ? " " : "", (int) version.len,
			 version.len ? (const char *) version.p : "");
	if (n_sets == 0)
		return mr_fail(g->st, MR_INVALID, "the ONNX model names no operator set");
	if (g->opset == 0 && g->opset_ml == 0)
		return mr_fail(g->st, MR_UNSUPPORTED, "the ONNX model uses neither ai.onnx nor ai.onnx.ml, but operator sets that are not supported");
	if (g->opset > NN_MAX_OPSET || (g->opset && g->opset < NN_MIN_OPSET))
		return mr_fail(g->st, MR_UNSUPPORTED, "the ONNX model uses opset %d; %d to %d are supported", g->opset,
					   NN_MIN_OPSET, NN_MAX_OPSET);
	return read_graph(g, graph);
}
