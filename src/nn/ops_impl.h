/*
 * ops_impl.h
 *	  What the operator files offer to the table in ops.c, and to each other.
 */
#ifndef MILLRACE_NN_OPS_IMPL_H
#define MILLRACE_NN_OPS_IMPL_H

#include "nn/ops.h"

/* Simple operations between two questions whether to stop: some 5 ms. */
#define NN_STOP_WORK ((int64_t) 1 << 22)

enum nn_unary
{
	nn_unary_abs, nn_unary_neg, nn_unary_sign, nn_unary_sqrt, nn_unary_reciprocal, nn_unary_log,
	nn_unary_floor, nn_unary_ceil, nn_unary_round, nn_unary_erf, nn_unary_sin, nn_unary_cos, nn_unary_tan,
	nn_unary_asin, nn_unary_acos, nn_unary_atan, nn_unary_sinh, nn_unary_cosh, nn_unary_asinh,
	nn_unary_acosh, nn_unary_atanh, nn_unary_softplus, nn_unary_softsign, nn_unary_selu, nn_unary_celu,
	nn_unary_thresholded, nn_unary_mish, nn_unary_shrink, nn_unary_not, nn_unary_isnan, nn_unary_isinf,
	nn_unary_bits
};

/* Continues nn_binary; Sum is nn_add. */
enum nn_binary_more
{
	nn_binary_pow = 16, nn_binary_mean, nn_binary_prelu, nn_binary_mod, nn_binary_fmod, nn_binary_and,
	nn_binary_or, nn_binary_xor, nn_binary_shift_left, nn_binary_shift_right
};

enum nn_compare
{
	nn_compare_equal, nn_compare_less, nn_compare_greater, nn_compare_less_equal,
	nn_compare_greater_equal, nn_compare_and, nn_compare_or, nn_compare_xor
};

enum nn_reduce
{
	nn_reduce_sum, nn_reduce_mean, nn_reduce_max, nn_reduce_min, nn_reduce_prod, nn_reduce_l1,
	nn_reduce_l2, nn_reduce_log_sum, nn_reduce_log_sum_exp, nn_reduce_sum_square
};

/* Windows of Conv and pools in nn_params.i: 2-D; 1-D has height 1, 3-D adds the
 * first axis at the end.  The window comes first so that fusion and planning read
 * it alike for all. */
enum nn_window_param
{
	nn_w_kh, nn_w_kw, nn_w_sh, nn_w_sw, nn_w_dh, nn_w_dw, nn_w_pt, nn_w_pl, nn_w_pb, nn_w_pr,
	nn_w_groups,				/* Conv */
	nn_w_count_pad,				/* AveragePool */
	nn_w_kd, nn_w_sd, nn_w_dd, nn_w_pf, nn_w_pk,	/* 3-D: depth, front, back */
	nn_w_order,					/* MaxPool's indices: by column */
	nn_w_norm,					/* LpPool: p */
	nn_w_parts = nn_w_norm,		/* DeformConv: groups of offsets */
	nn_w_unpooled = 20			/* MaxUnpool: shape in which positions count */
};

/* LayerNormalization in nn_params.i; f[0] = epsilon. */
enum nn_norm_param
{
	nn_n_rows, nn_n_width,
	nn_n_rank,					/* dimensions of a row, 0: one */
	nn_n_rms,					/* no mean is taken */
	nn_n_bare					/* made by fusion: 1 its scale, 1 or 2 its shift may still come */
};

/* Strided copies (Slice, Transpose, ...) in nn_params.i: out[i...] =
 * in[start + sum i * stride], strides in elements of the input. */
enum nn_copy_param
{
	nn_c_start = 0,
	nn_c_stride = 1				/* .. 8 */
};

/* Resize and Upsample in nn_params.i; f = cubic coefficient, extrapolation value. */
enum nn_resize_mode
{
	nn_resize_nearest, nn_resize_linear, nn_resize_cubic
};
enum nn_resize_param
{
	nn_z_mode,					/* nn_resize_mode */
	nn_z_coordinates,			/* ops_resize.c: enum coordinates */
	nn_z_nearest,				/* ops_resize.c: enum nearest */
	nn_z_exclude,
	nn_z_antialias,
	nn_z_scale = 8,				/* of each axis: a double, nn_real() */
	nn_z_start = 16,			/* of the region of interest, likewise */
	nn_z_end = 24
};

/* Only lines and pixels, by at most 4 taps each, no crop: may be blocked. */
extern bool nn_resize_is_plane(const nn_params *p);

/* Taps of output position o of an axis of in to out: *at within the input, each
 * the next one `step` further on.  Returns how many; p must pass the above. */
extern int	nn_resize_taps(const nn_params *p, int axis, int64_t in, int64_t out, int64_t o, int32_t *at, float *w,
						   int step);

extern mr_code nn_need_float(nn_infer_call *c, int k);
extern void nn_bcast_merge(nn_bcast *b, int n);
/* A window's attributes into nn_params.i, the spatial dims of *s from input's to
 * output's; kernel: the weights' spatial dims, NULL: an attribute.  _back: the
 * transposed way (ops_window.c). */
extern mr_code nn_infer_window(nn_infer_call *c, const int64_t *kernel, nn_shape *s);
extern mr_code nn_infer_window_back(nn_infer_call *c, const int64_t *kernel, nn_shape *s);
extern void nn_bcast_init(nn_bcast *b, const nn_shape *out, int n, const nn_tensor *const *operands);
extern bool nn_bcast_next(const nn_bcast *b, int n, int64_t *index, int64_t *offset);
extern float nn_act_one(float x, nn_act act);

#define NN_OPERATOR(name) \
	extern mr_code nn_infer_##name(nn_infer_call *c); \
	extern mr_code nn_run_##name(nn_run_call *c)

/* ops_math.c */
NN_OPERATOR(activation);
NN_OPERATOR(unary);
/* ops_arith.c */
NN_OPERATOR(binary);
extern mr_code nn_run_pow(nn_run_call *c);
NN_OPERATOR(compare);
NN_OPERATOR(where);
/* ops_cast.c */
NN_OPERATOR(cast);
/* ops_shape.c */
NN_OPERATOR(identity);
NN_OPERATOR(reshape);
NN_OPERATOR(flatten);
NN_OPERATOR(squeeze);
NN_OPERATOR(unsqueeze);
NN_OPERATOR(shape);
NN_OPERATOR(constant);
NN_OPERATOR(constant_of_shape);
/* ops_resize.c */
NN_OPERATOR(resize);
/* ops_move.c */
NN_OPERATOR(transpose);
NN_OPERATOR(slice);
NN_OPERATOR(expand);
NN_OPERATOR(concat);
NN_OPERATOR(split);
NN_OPERATOR(gather);
NN_OPERATOR(depth_space);
NN_OPERATOR(tile);
/* ops_conv.c */
NN_OPERATOR(conv);
NN_OPERATOR(conv_transpose);
/* ops_pool.c */
NN_OPERATOR(pool);
NN_OPERATOR(global_pool);
NN_OPERATOR(max_unpool);
/* ops_moments.c */
NN_OPERATOR(batchnorm);
NN_OPERATOR(instancenorm);
NN_OPERATOR(groupnorm);
NN_OPERATOR(mvn);
NN_OPERATOR(lrn);
/* ops_axis.c */
NN_OPERATOR(cumsum);
extern mr_code nn_run_hardmax(nn_run_call *c);
NN_OPERATOR(lp_normalization);
NN_OPERATOR(topk);
NN_OPERATOR(reverse_sequence);
NN_OPERATOR(trilu);
/* ops_linalg.c */
NN_OPERATOR(einsum);
NN_OPERATOR(det);
/* ops_pad.c */
NN_OPERATOR(pad);
extern mr_code nn_infer_center_crop_pad(nn_infer_call *c);
NN_OPERATOR(col2im);
/* ops_sample.c */
NN_OPERATOR(grid_sample);
NN_OPERATOR(affine_grid);
/* ops_roi.c */
NN_OPERATOR(roi_align);
NN_OPERATOR(max_roi_pool);
NN_OPERATOR(deform_conv);
/* ops_signal.c */
NN_OPERATOR(dft);
NN_OPERATOR(stft);
/* ops_rnn.c */
NN_OPERATOR(rnn);
/* ops_make.c */
NN_OPERATOR(range);
NN_OPERATOR(eye_like);
NN_OPERATOR(window_function);
NN_OPERATOR(mel);
/* ops_norm.c */
NN_OPERATOR(layernorm);
/* ops_matrix.c */
NN_OPERATOR(gemm);
NN_OPERATOR(matmul);
NN_OPERATOR(softmax);
/* ops_reduce.c */
NN_OPERATOR(reduce);
NN_OPERATOR(arg);
/* ops_select.c */
NN_OPERATOR(nonzero);
NN_OPERATOR(compress);
NN_OPERATOR(unique);
NN_OPERATOR(nms);
/* ops_loss.c */
NN_OPERATOR(loss);
/* ops_gather.c */
NN_OPERATOR(gather_elements);
NN_OPERATOR(scatter_elements);
NN_OPERATOR(gather_nd);
NN_OPERATOR(scatter_nd);
NN_OPERATOR(one_hot);
/* ops_quant.c, ops_quant_product.c */
NN_OPERATOR(quantize);
NN_OPERATOR(dequantize);
NN_OPERATOR(dynamic_quantize);
NN_OPERATOR(conv_integer);
NN_OPERATOR(matmul_integer);
NN_OPERATOR(qlinear_conv);
NN_OPERATOR(qlinear_matmul);
/* ops_ml_feature.c: ai.onnx.ml */
NN_OPERATOR(ml_scaler);
NN_OPERATOR(ml_imputer);
NN_OPERATOR(ml_binarizer);
NN_OPERATOR(ml_normalizer);
NN_OPERATOR(ml_onehot);
NN_OPERATOR(ml_label);
NN_OPERATOR(ml_extract);
NN_OPERATOR(ml_vectorize);
/* ops_ml_linear.c */
NN_OPERATOR(ml_linear_regressor);
NN_OPERATOR(ml_linear_classifier);
NN_OPERATOR(ml_svm_regressor);
NN_OPERATOR(ml_svm_classifier);
/* ops_ml_tree.c */
NN_OPERATOR(ml_tree_regressor);
NN_OPERATOR(ml_tree_classifier);
NN_OPERATOR(ml_trees);

#endif							/* MILLRACE_NN_OPS_IMPL_H */
