/*
 * onnx.c
 *	  Reading an ONNX model into a graph: nodes, attributes, inputs, outputs.
 *
 * The bytes are hostile until proven good: every name, count and size is
 * checked here or in onnx_tensor.c before memory is taken for it, external
 * data is refused, subgraphs and functions too.  Shapes are infer.c's.
 */
#include <stdio.h>
#include <string.h>

#include "nn/onnx.h"
#include "nn/ops.h"

static mr_code
malformed(nn_graph *g, const char *what)
{
	return mr_fail(g->st, MR_INVALID, "malformed ONNX file: bad %s", what);
}

mr_code
nn_onnx_malformed(nn_graph *g, const char *what)
{
	return malformed(g, what);
}

/* A name or string field: length-delimited, bounded, without NUL. */
static bool
good_name(const pb_field *f)
{
	return f->wire == pb_length && f->bytes.len <= NN_MAX_NAME &&
		(f->bytes.len == 0 || memchr(f->bytes.p, 0, f->bytes.len) == NULL);
}

/* Count the fields of that number in a message. */
static bool
count_fields(pb_bytes message, uint32_t number, int *count)
{
	pb_reader	r = pb_open(message);
	pb_field	f;

	*count = 0;
	while (pb_next(&r, &f))
		if (f.number == number && (*count)++ == INT32_MAX - 1)
			return false;
	return !r.bad;
}

/* ---- attributes ---- */

/* ints and floats come packed or one by one: count them first.  Strings stay where they are. */
static mr_code
read_attribute(nn_graph *g, pb_bytes message, nn_attr *a)
{
	pb_reader	r = pb_open(message);
	pb_field	f;
	int64_t		n_ints = 0,
				n_floats = 0,
				n_strings = 0;
	int			type = 0;
	bool		has_f = false,
				has_i = false,
				has_s = false;

	a->name = "";
	while (pb_next(&r, &f))
	{
		if (f.number == 8)
		{
			if (f.wire == pb_varint)
				n_ints++;
			else if (f.wire == pb_length)
				for (size_t i = 0; i < f.bytes.len; i++)
					n_ints += !(f.bytes.p[i] & 0x80);
			else
				return malformed(g, "attribute");
		}
		else if (f.number == 7)
		{
			if (f.wire == pb_fixed32)
				n_floats++;
			else if (f.wire == pb_length && f.bytes.len % 4 == 0)
				n_floats += (int64_t) (f.bytes.len / 4);
			else
				return malformed(g, "attribute");
		}
		else if (f.number == 9)
			n_strings++;
	}
	if (r.bad || n_ints > INT32_MAX || n_floats > INT32_MAX || n_strings > INT32_MAX)
		return malformed(g, "attribute");
	if (n_ints && (a->ints = nn_heap_alloc(g->heap, (size_t) n_ints, sizeof(int64_t))) == NULL)
		return g->st->code;
	if (n_floats && (a->floats = nn_heap_alloc(g->heap, (size_t) n_floats, sizeof(float))) == NULL)
		return g->st->code;
	if (n_strings && (a->strings = nn_heap_alloc(g->heap, (size_t) n_strings, sizeof(pb_bytes))) == NULL)
		return g->st->code;

	n_ints = n_floats = n_strings = 0;
	r = pb_open(message);
	while (pb_next(&r, &f))
	{
		uint32_t	bits = (uint32_t) f.value;
		pb_bytes	packed = f.bytes;

		switch (f.number)
		{
			case 1:
				if (!good_name(&f))
					return malformed(g, "attribute name");
				if ((a->name = nn_copy_string(g, f.bytes)) == NULL)
					return g->st->code;
				break;
			case 2:
				if (f.wire != pb_fixed32)
					return malformed(g, "attribute");
				memcpy(&a->f, &bits, 4);
				has_f = true;
				break;
			case 3:
				if (f.wire != pb_varint)
					return malformed(g, "attribute");
				a->i = (int64_t) f.value;
				has_i = true;
				break;
			case 4:
			case 5:
				if (f.wire != pb_length)
					return malformed(g, "attribute");
				a->s = f.bytes;
				has_s = true;
				if (type == 0)
					a->type = f.number == 4 ? nn_attr_string : nn_attr_tensor;
				break;
			case 7:
				if (f.wire == pb_fixed32)
					memcpy(&a->floats[n_floats++], &bits, 4);
				else
				{
					if (packed.len)
						memcpy(a->floats + n_floats, packed.p, packed.len);
					n_floats += (int64_t) (packed.len / 4);
				}
				break;
			case 8:
				if (f.wire == pb_varint)
					a->ints[n_ints++] = (int64_t) f.value;
				else
					while (packed.len)
					{
						uint64_t	v;

						if (!pb_take_varint(&packed, &v))
							return malformed(g, "attribute");
						a->ints[n_ints++] = (int64_t) v;
					}
				break;
			case 6:
			case 11:
				a->type = nn_attr_graph;
				break;
			case 9:
				if (f.wire != pb_length)
					return malformed(g, "attribute");
				a->type = nn_attr_strings;
				a->strings[n_strings++] = f.bytes;
				break;
			case 20:
				if (f.wire != pb_varint || f.value > 14)
					return malformed(g, "attribute type");
				type = (int) f.value;
				break;
			case 21:
				if (f.wire == pb_length && f.bytes.len == 0)
					break;
				return mr_fail(g->st, MR_UNSUPPORTED, "ONNX functions with attribute references are not supported");
		}
	}
	if (r.bad)
		return malformed(g, "attribute");
	/* The type is stated since IR version 2; else it follows from what is set. */
	if (type)
		a->type = type <= 8 ? (nn_attr_type) type : type == 10 ? nn_attr_graph : nn_attr_other;
	else if (a->type == 0)
		a->type = n_ints ? nn_attr_ints : n_floats ? nn_attr_floats : has_i ? nn_attr_int :
			has_f ? nn_attr_float : nn_attr_other;
	if (a->type == nn_attr_tensor && !has_s)
		return malformed(g, "attribute");
	a->n = (int) (a->type == nn_attr_floats ? n_floats : a->type == nn_attr_strings ? n_strings : n_ints);
	return MR_OK;
}

/* ---- nodes ---- */

/* Value of an input or output name; empty: omitted.  Outputs must be new. */
static mr_code
node_value(nn_graph *g, nn_node *n, pb_bytes name, bool output, int index, int *value)
{
	char		buf[64];

	*value = -1;
	if (name.len == 0)
		return MR_OK;
	*value = nn_find_value(g, name);
	if (!output)
	{
		if (*value < 0)
		{
			char	   *s = nn_copy_string(g, name);

			return s ? nn_node_fail(g, n, MR_INVALID, "input \"%s\" is not defined before the node (unknown, or a cycle)",
									nn_printable(s, buf)) : g->st->code;
		}
		return MR_OK;
	}
	if (*value >= 0)
		return nn_node_fail(g, n, MR_INVALID, "output \"%s\" is defined twice",
							nn_printable(g->values[*value].name, buf));
	*value = nn_add_value(g, name);
	if (*value < 0)
		return g->st->code;
	g->values[*value].producer = index;
	return MR_OK;
}

static mr_code
read_node(nn_graph *g, pb_bytes message, nn_node *n, int index)
{
	pb_reader	r = pb_open(message);
	pb_field	f;
	const char *domain = "";
	bool		known;
	int			n_in,
				n_out,
				n_attrs;
	char		dom[64];

	if (!count_fields(message, 1, &n_in) || !count_fields(message, 2, &n_out) ||
		!count_fields(message, 5, &n_attrs))
		return malformed(g, "node");
	n->name = n->op_type = "";
	n->residual = -1;
	n->opset = g->opset;
	n->in = nn_heap_alloc(g->heap, (size_t) n_in + 1, sizeof(int));
	n->out = nn_heap_alloc(g->heap, (size_t) n_out + 1, sizeof(int));
	n->attrs = nn_heap_alloc(g->heap, (size_t) n_attrs + 1, sizeof(nn_attr));
	if (!n->in || !n->out || !n->attrs)
		return g->st->code;

	/* First what errors need to name the node, then the rest. */
	while (pb_next(&r, &f))
	{
		if (f.number <= 7 && f.number != 5 && !good_name(&f))
			return malformed(g, "node");
		if (f.number == 3 && (n->name = nn_copy_string(g, f.bytes)) == NULL)
			return g->st->code;
		if (f.number == 4 && (n->op_type = nn_copy_string(g, f.bytes)) == NULL)
			return g->st->code;
		if (f.number == 7 && (domain = nn_copy_string(g, f.bytes)) == NULL)
			return g->st->code;
	}
	if (strcmp(domain, "ai.onnx") == 0)
		domain = "";
	if (strcmp(domain, "ai.onnx.ml") == 0)
		n->opset = g->opset_ml;
	else if (domain[0])
		return nn_node_fail(g, n, MR_UNSUPPORTED, "operators of domain \"%s\" are not supported",
							nn_printable(domain, dom));
	n->op = nn_find_op(domain, n->op_type, n->opset, &known);
	if (n->op == NULL)
		return nn_node_fail(g, n, MR_UNSUPPORTED, known ? "the operator is not supported in this opset" :
							"the operator is not supported");

	r = pb_open(message);
	while (pb_next(&r, &f))
	{
		if (f.number == 1)
			NN_TRY(node_value(g, n, f.bytes, false, index, &n->in[n->n_in++]));
		else if (f.number == 5)
		{
			if (f.wire != pb_length)
				return malformed(g, "attribute");
			NN_TRY(read_attribute(g, f.bytes, &n->attrs[n->n_attrs++]));
		}
	}
	r = pb_open(message);
	while (pb_next(&r, &f))
		if (f.number == 2)
			NN_TRY(node_value(g, n, f.bytes, true, index, &n->out[n->n_out++]));
	if (n->n_in < n->op->min_in || n->n_in > n->op->max_in)
		return nn_node_fail(g, n, MR_INVALID, "%d inputs, must be %d to %d", n->n_in, n->op->min_in,
							n->op->max_in);
	if (n->n_out < 1)
		return nn_node_fail(g, n, MR_INVALID, "no outputs");
	for (int i = 0; i < n->n_attrs; i++)
		if (n->attrs[i].type == nn_attr_graph)
			return nn_node_fail(g, n, MR_UNSUPPORTED, "subgraphs are not supported");
	return MR_OK;
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
			return malformed(g, "type");
		if (f.number == 1)
			tensor = f.bytes;
		else if (f.number == 4 || f.number == 5 || f.number == 8 || f.number == 9)
			return mr_fail(g->st, MR_UNSUPPORTED, "input or output \"%s\" is not a dense tensor",
						   nn_printable(name, buf));
	}
	if (r.bad)
		return malformed(g, "type");
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
			return malformed(g, "type");
	}
	if (r.bad)
		return malformed(g, "type");
	r = pb_open(shape);
	while (pb_next(&r, &f))
	{
		pb_reader	d;
		int64_t		dim = -1;
		int			at = decl->shape.rank;

		if (f.number != 1 || f.wire != pb_length)
			return malformed(g, "shape");
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
				if (!good_name(&f))
					return malformed(g, "shape");
				if (f.bytes.len && (decl->names[at] = nn_copy_string(g, f.bytes)) == NULL)
					return g->st->code;
			}
		}
		if (d.bad)
			return malformed(g, "shape");
		/* Some exporters write 0 or -1 for an open batch dimension. */
		decl->shape.dims[at] = dim < 0 || (dim == 0 && at == 0) ? -1 : dim;
		decl->shape.rank++;
	}
	return r.bad ? malformed(g, "shape") : MR_OK;
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
			if (!good_name(&f) || f.bytes.len == 0)
				return malformed(g, "input or output name");
			name = f.bytes;
		}
		else if (f.number == 2 && f.wire == pb_length)
			type = f.bytes;
	}
	if (r.bad || name.len == 0)
		return malformed(g, "input or output");
	if (name.len >= NN_NAME_SIZE)
		return mr_fail(g->st, MR_UNSUPPORTED, "names of inputs and outputs may have %d bytes", NN_NAME_SIZE - 1);
	if (!nn_onnx_utf8(name))
		return malformed(g, "input or output name");
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

	if (!count_fields(message, 1, &n_nodes))
		return malformed(g, "graph");
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
				return malformed(g, "initializer");
			NN_TRY(nn_read_initializer(g, f.bytes));
		}
	}
	if (r.bad)
		return malformed(g, "graph");
	for (int pass = 0; pass < 3; pass++)
	{
		static const uint32_t numbers[] = {11, 1, 12};

		r = pb_open(message);
		while (pb_next(&r, &f))
		{
			if (f.number != numbers[pass])
				continue;
			if (f.wire != pb_length)
				return malformed(g, "graph");
			if (pass == 1)
			{
				if ((g->n_nodes & 255) == 255 && mr_interrupted(g->env))
					return mr_fail(g->st, MR_CANCELED, "canceled");
				NN_TRY(read_node(g, f.bytes, &g->nodes[g->n_nodes], g->n_nodes));
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
			if (!good_name(&f))
				return malformed(g, "opset");
			domain = f.bytes;
		}
		else if (f.number == 2 && f.wire == pb_varint)
			version = f.value;
	}
	if (r.bad || version > 1000)
		return malformed(g, "opset");
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
				if (!good_name(&f) || !nn_onnx_utf8(f.bytes))
					return malformed(g, "producer");
				*(f.number == 2 ? &name : &version) = f.bytes;
				break;
			case 7:
				if (f.wire != pb_length)
					return malformed(g, "graph");
				graph = f.bytes;
				n_graphs++;
				break;
			case 8:
				if (f.wire != pb_length)
					return malformed(g, "opset");
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
