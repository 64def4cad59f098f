/*
 * onnx_node.c
 *	  Nodes of an ONNX model and their attributes.
 */
#include <stdio.h>
#include <string.h>

#include "nn/onnx.h"
#include "nn/ops.h"

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
				return nn_onnx_malformed(g, "attribute");
		}
		else if (f.number == 7)
		{
			if (f.wire == pb_fixed32)
				n_floats++;
			else if (f.wire == pb_length && f.bytes.len % 4 == 0)
				n_floats += (int64_t) (f.bytes.len / 4);
			else
				return nn_onnx_malformed(g, "attribute");
		}
		else if (f.number == 9)
			n_strings++;
	}
	if (r.bad || n_ints > INT32_MAX || n_floats > INT32_MAX || n_strings > INT32_MAX)
		return nn_onnx_malformed(g, "attribute");
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
				if (!nn_onnx_name(&f))
					return nn_onnx_malformed(g, "attribute name");
				if ((a->name = nn_copy_string(g, f.bytes)) == NULL)
					return g->st->code;
				break;
			case 2:
				if (f.wire != pb_fixed32)
					return nn_onnx_malformed(g, "attribute");
				memcpy(&a->f, &bits, 4);
				has_f = true;
				break;
			case 3:
				if (f.wire != pb_varint)
					return nn_onnx_malformed(g, "attribute");
				a->i = (int64_t) f.value;
				has_i = true;
				break;
			case 4:
			case 5:
				if (f.wire != pb_length)
					return nn_onnx_malformed(g, "attribute");
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
							return nn_onnx_malformed(g, "attribute");
						a->ints[n_ints++] = (int64_t) v;
					}
				break;
			case 6:
			case 11:
				a->type = nn_attr_graph;
				break;
			case 9:
				if (f.wire != pb_length)
					return nn_onnx_malformed(g, "attribute");
				a->type = nn_attr_strings;
				a->strings[n_strings++] = f.bytes;
				break;
			case 20:
				if (f.wire != pb_varint || f.value > 14)
					return nn_onnx_malformed(g, "attribute type");
				type = (int) f.value;
				break;
			case 21:
				if (f.wire == pb_length && f.bytes.len == 0)
					break;
				return mr_fail(g->st, MR_UNSUPPORTED, "ONNX functions with attribute references are not supported");
		}
	}
	if (r.bad)
		return nn_onnx_malformed(g, "attribute");
	/* The type is stated since IR version 2; else it follows from what is set. */
	if (type)
		a->type = type <= 8 ? (nn_attr_type) type : type == 10 ? nn_attr_graph : nn_attr_other;
	else if (a->type == 0)
		a->type = n_ints ? nn_attr_ints : n_floats ? nn_attr_floats : has_i ? nn_attr_int :
			has_f ? nn_attr_float : nn_attr_other;
	if (a->type == nn_attr_tensor && !has_s)
		return nn_onnx_malformed(g, "attribute");
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

mr_code
nn_read_node(nn_graph *g, pb_bytes message, nn_node *n, int index)
{
	pb_reader	r = pb_open(message);
	pb_field	f;
	const char *domain = "";
	bool		known;
	int			n_in,
				n_out,
				n_attrs;
	char		dom[64];

	if (!nn_onnx_count(message, 1, &n_in) || !nn_onnx_count(message, 2, &n_out) ||
		!nn_onnx_count(message, 5, &n_attrs))
		return nn_onnx_malformed(g, "node");
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
		if (f.number <= 7 && f.number != 5 && !nn_onnx_name(&f))
			return nn_onnx_malformed(g, "node");
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
				return nn_onnx_malformed(g, "attribute");
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
