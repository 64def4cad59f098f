/*
 * steps.c
 *	  The table of step kinds.
 *
 * One line each, in the order of nn_step_kind: name, most inputs, is the output
 * blocked; check, run or run_lines with lines, describe, write.
 */
#include "nn/steps_impl.h"

#define WHOLE(x) nn_step_run_##x, NULL, NULL
#define LINES(x) NULL, nn_step_run_##x##_lines, NULL
#define COUNTED(x) NULL, nn_step_run_##x##_lines, nn_step_count_##x

const nn_step_type nn_step_types[nn_step_last + 1] = {
	{nn_step_plain, "plain", 0, false,
		nn_step_check_plain, WHOLE(plain), NULL, NULL},
	{nn_step_conv, "conv", 2, true,
		nn_step_check_conv, LINES(conv), nn_step_describe_conv, nn_step_write_conv},
	{nn_step_conv_planar, "conv planar", 2, true,
		nn_step_check_conv, LINES(conv), nn_step_describe_conv, nn_step_write_conv},
	{nn_step_depthwise, "conv depthwise", 2, true,
		nn_step_check_conv, LINES(conv), nn_step_describe_conv, nn_step_write_conv},
	{nn_step_maxpool, "max pool", 1, true,
		nn_step_check_pool, LINES(maxpool), nn_step_describe_pool, NULL},
	{nn_step_avgpool, "average pool", 1, true,
		nn_step_check_pool, LINES(avgpool), nn_step_describe_pool, NULL},
	{nn_step_global_avgpool, "global average", 1, true,
		nn_step_check_global_pool, WHOLE(global_pool), NULL, NULL},
	{nn_step_global_maxpool, "global max", 1, true,
		nn_step_check_global_pool, WHOLE(global_pool), NULL, NULL},
	{nn_step_binary, "binary", 2, true,
		nn_step_check_binary, LINES(binary), nn_step_describe_binary, NULL},
	{nn_step_scale_shift, "scale shift", 1, true,
		nn_step_check_scale_shift, LINES(scale_shift), nn_step_describe_act, nn_step_write_scale_shift},
	{nn_step_gemm, "gemm", 2, false,
		nn_step_check_gemm, COUNTED(gemm), nn_step_describe_gemm, nn_step_write_gemm},
	{nn_step_to_blocked, "to blocked", 1, true,
		nn_step_check_layout, LINES(to_blocked), NULL, NULL},
	{nn_step_from_blocked, "from blocked", 1, false,
		nn_step_check_layout, COUNTED(from_blocked), NULL, NULL},
	{nn_step_copy_channels, "copy channels", 1, true,
		nn_step_check_copy_channels, LINES(copy_channels), nn_step_describe_move, NULL},
	{nn_step_shortcut, "shortcut", 1, true,
		nn_step_check_shortcut, LINES(shortcut), nn_step_describe_move, NULL},
	{nn_step_winograd, "conv winograd", 2, true,
		nn_step_check_conv, COUNTED(winograd), nn_step_describe_conv, nn_step_write_conv},
	{nn_step_mbconv, "expand depthwise project", 2, true,
		nn_step_check_mbconv, LINES(mbconv), nn_step_describe_mbconv, nn_step_write_mbconv},
	{nn_step_resize, "resize", 1, true,
		nn_step_check_resize, LINES(resize), NULL, NULL},
	{nn_step_low_conv, "conv", 2, true,
		nn_step_check_low_conv, LINES(low_conv), nn_step_describe_conv, nn_step_write_low},
	{nn_step_low_planar, "conv planar", 2, true,
		nn_step_check_low_conv, LINES(low_conv), nn_step_describe_conv, nn_step_write_low},
	{nn_step_low_depthwise, "conv depthwise", 2, true,
		nn_step_check_low_conv, LINES(low_conv), nn_step_describe_conv, nn_step_write_low},
	{nn_step_low_gemm, "gemm", 2, false,
		nn_step_check_low_gemm, NULL, nn_step_run_low_gemm_lines, nn_step_count_gemm, nn_step_describe_gemm, nn_step_write_low},
	{nn_step_low_maxpool, "max pool", 1, true,
		nn_step_check_low_pool, LINES(low_pool), nn_step_describe_pool, NULL},
	{nn_step_low_avgpool, "average pool", 1, true,
		nn_step_check_low_pool, LINES(low_pool), nn_step_describe_pool, NULL},
	{nn_step_low_global_avgpool, "global average", 1, true,
		nn_step_check_low_global, WHOLE(low_global), NULL, NULL},
	{nn_step_low_binary, "binary", 2, true,
		nn_step_check_low_binary, LINES(low_binary), nn_step_describe_binary, NULL},
	{nn_step_low_convert, "convert", 1, true,
		nn_step_check_low_form, COUNTED(low_form), nn_step_describe_act, NULL},
	{nn_step_low_from_plain, "to blocked", 1, true,
		nn_step_check_low_form, COUNTED(low_form), NULL, NULL},
	{nn_step_low_to_plain, "from blocked", 1, false,
		nn_step_check_low_form, COUNTED(low_form), NULL, NULL},
	{nn_step_low_rows, "convert", 1, false,
		nn_step_check_low_form, COUNTED(low_form), nn_step_describe_act, NULL},
	{nn_step_low_copy, "copy channels", 1, true,
		nn_step_check_low_copy, LINES(low_copy), nn_step_describe_move, NULL},
	{nn_step_low_winograd, "conv winograd", 2, true,
		nn_step_check_low_conv, COUNTED(low_winograd), nn_step_describe_conv, nn_step_write_low},
	{nn_step_low_resize, "resize", 1, true,
		nn_step_check_low_resize, LINES(low_resize), NULL, NULL},
	{nn_step_layernorm, "layer norm", 1, false,
		nn_step_check_layernorm, COUNTED(layernorm), nn_step_describe_layernorm, nn_step_write_layernorm},
	{nn_step_attention, "attention", 5, false,
		nn_step_check_attention, WHOLE(attention), nn_step_describe_attention, NULL},
};

bool
nn_step_can_fold(const nn_fstep *s, const nn_ftensor *const *t)
{
	int			n = s->n_in;

	if (s->kind == nn_step_plain)
	{
		/* a table of one row to others; behind it what the operator keeps */
		if (s->op < 0 || s->op >= nn_n_ops || nn_ops[s->op].arg != NN_ROWS_ALONE || nn_ops[s->op].domain[0] == '\0' || n < 1)
			return false;
		for (int i = 1; i < n; i++)
			if (t[i] == NULL || t[i]->place != nn_place_const)
				return false;
		for (int i = n; i < n + s->n_out; i++)
			if (t[i] && (t[i]->shape.rank < 1 || t[i]->shape.dims[0] != 1))
				return false;
		if (t[0] == NULL || t[0]->shape.rank != 2 || t[0]->shape.dims[0] != 1)
			return false;
		n = 1;
	}
	else if (s->kind != nn_step_gemm && s->kind != nn_step_layernorm)
		return false;
	for (int i = 0; i < n; i++)
		if (t[i] == NULL || t[i]->blocked || t[i]->place == nn_place_const)
			return false;
	return true;
}
