/*
 * ops.c
 *	  The table of operators.
 *
 * One line each: name, domain, first and last opset, what the planner may see
 * in it, number of inputs, shape rule, plain kernel, member of a family.  Lines
 * of one operator with different opsets stand together.  The order is part of
 * the compiled file's identity through nn_ops_fingerprint().
 */
#include <limits.h>
#include <string.h>

#include "nn/onnx.h"
#include "nn/ops_impl.h"

#define ALL 1, NN_MAX_OPSET
#define MANY INT_MAX
#define ML "ai.onnx.ml"
#define F(name) nn_infer_##name, nn_run_##name

const nn_op nn_ops[] = {
	/* activations */
	{"Relu", "", ALL, nn_kind_activation, 1, 1, F(activation), nn_act_relu},
	{"Clip", "", 1, 10, nn_kind_activation, 1, 1, F(activation), nn_act_clip},
	{"Clip", "", 11, NN_MAX_OPSET, nn_kind_activation, 1, 3, F(activation), nn_act_clip},
	{"LeakyRelu", "", ALL, nn_kind_activation, 1, 1, F(activation), nn_act_leaky},
	{"Sigmoid", "", ALL, nn_kind_activation, 1, 1, F(activation), nn_act_sigmoid},
	{"Tanh", "", ALL, nn_kind_activation, 1, 1, F(activation), nn_act_tanh},
	{"HardSigmoid", "", ALL, nn_kind_activation, 1, 1, F(activation), nn_act_hardsigmoid},
	{"HardSwish", "", 14, NN_MAX_OPSET, nn_kind_activation, 1, 1, F(activation), nn_act_hardswish},
	{"Gelu", "", 20, NN_MAX_OPSET, nn_kind_activation, 1, 1, F(activation), nn_act_gelu},
	{"Elu", "", ALL, nn_kind_activation, 1, 1, F(activation), nn_act_elu},
	{"Exp", "", ALL, nn_kind_activation, 1, 1, F(activation), nn_act_exp},

	/* elementwise, one input */
	{"Abs", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_abs},
	{"Neg", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_neg},
	{"Sign", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_sign},
	{"Sqrt", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_sqrt},
	{"Reciprocal", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_reciprocal},
	{"Log", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_log},
	{"Floor", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_floor},
	{"Ceil", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_ceil},
	{"Round", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_round},
	{"Erf", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_erf},
	{"Sin", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_sin},
	{"Cos", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_cos},
	{"Tan", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_tan},
	{"Asin", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_asin},
	{"Acos", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_acos},
	{"Atan", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_atan},
	{"Sinh", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_sinh},
	{"Cosh", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_cosh},
	{"Asinh", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_asinh},
	{"Acosh", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_acosh},
	{"Atanh", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_atanh},
	{"Softplus", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_softplus},
	{"Softsign", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_softsign},
	{"Selu", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_selu},
	{"Celu", "", 12, NN_MAX_OPSET, nn_kind_plain, 1, 1, F(unary), nn_unary_celu},
	{"ThresholdedRelu", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_thresholded},
	{"Mish", "", 18, NN_MAX_OPSET, nn_kind_plain, 1, 1, F(unary), nn_unary_mish},
	{"Not", "", ALL, nn_kind_plain, 1, 1, F(unary), nn_unary_not},
	{"BitwiseNot", "", 18, NN_MAX_OPSET, nn_kind_plain, 1, 1, F(unary), nn_unary_bits},
	{"IsNaN", "", 9, NN_MAX_OPSET, nn_kind_plain, 1, 1, F(unary), nn_unary_isnan},
	{"IsInf", "", 10, NN_MAX_OPSET, nn_kind_plain, 1, 1, F(unary), nn_unary_isinf},
	{"Shrink", "", 9, NN_MAX_OPSET, nn_kind_plain, 1, 1, F(unary), nn_unary_shrink},

	/* elementwise, broadcasting */
	{"Add", "", ALL, nn_kind_binary, 2, 2, F(binary), nn_add},
	{"Sub", "", ALL, nn_kind_binary, 2, 2, F(binary), nn_sub},
	{"Mul", "", ALL, nn_kind_binary, 2, 2, F(binary), nn_mul},
	{"Div", "", ALL, nn_kind_binary, 2, 2, F(binary), nn_div},
	{"Min", "", ALL, nn_kind_binary, 1, MANY, F(binary), nn_min},
	{"Max", "", ALL, nn_kind_binary, 1, MANY, F(binary), nn_max},
	{"Sum", "", ALL, nn_kind_binary, 1, MANY, F(binary), nn_add},
	{"Mean", "", ALL, nn_kind_plain, 1, MANY, F(binary), nn_binary_mean},
	{"Pow", "", ALL, nn_kind_plain, 2, 2, nn_infer_binary, nn_run_pow, nn_binary_pow},
	{"Mod", "", 10, NN_MAX_OPSET, nn_kind_plain, 2, 2, F(binary), nn_binary_mod},
	{"BitShift", "", 11, NN_MAX_OPSET, nn_kind_plain, 2, 2, F(binary), nn_binary_shift_left},
	{"BitwiseAnd", "", 18, NN_MAX_OPSET, nn_kind_plain, 2, 2, F(binary), nn_binary_and},
	{"BitwiseOr", "", 18, NN_MAX_OPSET, nn_kind_plain, 2, 2, F(binary), nn_binary_or},
	{"BitwiseXor", "", 18, NN_MAX_OPSET, nn_kind_plain, 2, 2, F(binary), nn_binary_xor},
	{"PRelu", "", ALL, nn_kind_plain, 2, 2, F(binary), nn_binary_prelu},
	{"Equal", "", ALL, nn_kind_plain, 2, 2, F(compare), nn_compare_equal},
	{"Less", "", ALL, nn_kind_plain, 2, 2, F(compare), nn_compare_less},
	{"Greater", "", ALL, nn_kind_plain, 2, 2, F(compare), nn_compare_greater},
	{"LessOrEqual", "", 12, NN_MAX_OPSET, nn_kind_plain, 2, 2, F(compare), nn_compare_less_equal},
	{"GreaterOrEqual", "", 12, NN_MAX_OPSET, nn_kind_plain, 2, 2, F(compare), nn_compare_greater_equal},
	{"And", "", ALL, nn_kind_plain, 2, 2, F(compare), nn_compare_and},
	{"Or", "", ALL, nn_kind_plain, 2, 2, F(compare), nn_compare_or},
	{"Xor", "", ALL, nn_kind_plain, 2, 2, F(compare), nn_compare_xor},
	{"Where", "", ALL, nn_kind_plain, 3, 3, F(where), 0},

	/* shapes and types */
	{"Identity", "", ALL, nn_kind_alias, 1, 1, F(identity), 0},
	{"Dropout", "", 1, 11, nn_kind_alias, 1, 1, F(identity), 1},
	{"Dropout", "", 12, NN_MAX_OPSET, nn_kind_alias, 1, 3, F(identity), 1},
	{"Reshape", "", 5, NN_MAX_OPSET, nn_kind_alias, 2, 2, F(reshape), 0},
	{"Flatten", "", ALL, nn_kind_alias, 1, 1, F(flatten), 0},
	{"Squeeze", "", 1, 12, nn_kind_alias, 1, 1, F(squeeze), 0},
	{"Squeeze", "", 13, NN_MAX_OPSET, nn_kind_alias, 1, 2, F(squeeze), 0},
	{"Unsqueeze", "", 1, 12, nn_kind_alias, 1, 1, F(unsqueeze), 0},
	{"Unsqueeze", "", 13, NN_MAX_OPSET, nn_kind_alias, 2, 2, F(unsqueeze), 0},
	{"Shape", "", ALL, nn_kind_plain, 1, 1, F(shape), 0},
	{"Size", "", ALL, nn_kind_plain, 1, 1, F(shape), 1},
	{"Constant", "", ALL, nn_kind_plain, 0, 0, F(constant), 0},
	{"ConstantOfShape", "", 9, NN_MAX_OPSET, nn_kind_plain, 1, 1, F(constant_of_shape), 0},
	{"Cast", "", 6, NN_MAX_OPSET, nn_kind_plain, 1, 1, F(cast), 0},
	{"CastLike", "", 15, NN_MAX_OPSET, nn_kind_plain, 2, 2, F(cast), 1},

	/* moving elements */
	{"Transpose", "", ALL, nn_kind_plain, 1, 1, F(transpose), 0},
	{"Slice", "", 1, 9, nn_kind_slice, 1, 1, F(slice), 0},
	{"Slice", "", 10, NN_MAX_OPSET, nn_kind_slice, 3, 5, F(slice), 0},
	{"Expand", "", 8, NN_MAX_OPSET, nn_kind_plain, 2, 2, F(expand), 0},
	{"Concat", "", 4, NN_MAX_OPSET, nn_kind_concat, 1, MANY, F(concat), 0},
	{"Split", "", 2, 12, nn_kind_split, 1, 1, F(split), 0},
	{"Split", "", 13, NN_MAX_OPSET, nn_kind_split, 1, 2, F(split), 0},
	{"Pad", "", 2, 10, nn_kind_pad, 1, 1, F(pad), 0},
	{"Pad", "", 11, NN_MAX_OPSET, nn_kind_pad, 2, 4, F(pad), 0},
	{"CenterCropPad", "", 18, NN_MAX_OPSET, nn_kind_plain, 2, 2, nn_infer_center_crop_pad, nn_run_pad, 0},
	{"Col2Im", "", 18, NN_MAX_OPSET, nn_kind_plain, 3, 3, F(col2im), 0},
	{"Gather", "", ALL, nn_kind_plain, 2, 2, F(gather), 0},
	{"DepthToSpace", "", ALL, nn_kind_plain, 1, 1, F(depth_space), 0},
	{"SpaceToDepth", "", ALL, nn_kind_plain, 1, 1, F(depth_space), 1},
	{"Tile", "", 6, NN_MAX_OPSET, nn_kind_plain, 2, 2, F(tile), 0},

	/* reading and writing by index */
	{"GatherElements", "", 11, NN_MAX_OPSET, nn_kind_plain, 2, 2, F(gather_elements), 0},
	{"GatherND", "", 11, NN_MAX_OPSET, nn_kind_plain, 2, 2, F(gather_nd), 0},
	{"Scatter", "", 9, 10, nn_kind_plain, 3, 3, F(scatter_elements), 0},
	{"ScatterElements", "", 11, NN_MAX_OPSET, nn_kind_plain, 3, 3, F(scatter_elements), 0},
	{"ScatterND", "", 11, NN_MAX_OPSET, nn_kind_plain, 3, 3, F(scatter_nd), 0},
	{"OneHot", "", 9, NN_MAX_OPSET, nn_kind_plain, 3, 3, F(one_hot), 0},

	{"ReverseSequence", "", 10, NN_MAX_OPSET, nn_kind_plain, 2, 2, F(reverse_sequence), 0},
	{"Trilu", "", 14, NN_MAX_OPSET, nn_kind_plain, 1, 2, F(trilu), 0},

	/* recurrent networks */
	{"RNN", "", 7, NN_MAX_OPSET, nn_kind_plain, 3, 6, F(rnn), 0},
	{"GRU", "", 7, NN_MAX_OPSET, nn_kind_plain, 3, 6, F(rnn), 1},
	{"LSTM", "", 7, NN_MAX_OPSET, nn_kind_plain, 3, 8, F(rnn), 2},

	/* signals */
	{"DFT", "", 17, 19, nn_kind_plain, 1, 2, F(dft), 0},
	{"DFT", "", 20, NN_MAX_OPSET, nn_kind_plain, 1, 3, F(dft), 0},
	{"STFT", "", 17, NN_MAX_OPSET, nn_kind_plain, 2, 4, F(stft), 0},

	/* tensors from numbers */
	{"Range", "", 11, NN_MAX_OPSET, nn_kind_plain, 3, 3, F(range), 0},
	{"EyeLike", "", 9, NN_MAX_OPSET, nn_kind_plain, 1, 1, F(eye_like), 0},
	{"HannWindow", "", 17, NN_MAX_OPSET, nn_kind_plain, 1, 1, F(window_function), 0},
	{"HammingWindow", "", 17, NN_MAX_OPSET, nn_kind_plain, 1, 1, F(window_function), 1},
	{"BlackmanWindow", "", 17, NN_MAX_OPSET, nn_kind_plain, 1, 1, F(window_function), 2},
	{"MelWeightMatrix", "", 17, NN_MAX_OPSET, nn_kind_plain, 5, 5, F(mel), 0},

	/* resizing and sampling */
	{"GridSample", "", 16, NN_MAX_OPSET, nn_kind_plain, 2, 2, F(grid_sample), 0},
	{"AffineGrid", "", 20, NN_MAX_OPSET, nn_kind_plain, 2, 2, F(affine_grid), 0},
	{"RoiAlign", "", 10, NN_MAX_OPSET, nn_kind_plain, 3, 3, F(roi_align), 0},
	{"MaxRoiPool", "", ALL, nn_kind_plain, 2, 2, F(max_roi_pool), 0},
	{"DeformConv", "", 19, NN_MAX_OPSET, nn_kind_plain, 3, 5, F(deform_conv), 0},
	{"Resize", "", 10, 10, nn_kind_resize, 2, 2, F(resize), 0},
	{"Resize", "", 11, NN_MAX_OPSET, nn_kind_resize, 1, 4, F(resize), 0},
	{"Upsample", "", 7, 8, nn_kind_resize, 1, 1, F(resize), 1},
	{"Upsample", "", 9, 9, nn_kind_resize, 2, 2, F(resize), 1},

	/* convolution, pooling, normalisation */
	{"Conv", "", ALL, nn_kind_conv, 2, 3, F(conv), 0},
	{"ConvTranspose", "", ALL, nn_kind_plain, 2, 3, F(conv_transpose), 0},
	{"MaxPool", "", ALL, nn_kind_maxpool, 1, 1, F(pool), 0},
	{"AveragePool", "", ALL, nn_kind_avgpool, 1, 1, F(pool), 0},
	{"LpPool", "", ALL, nn_kind_plain, 1, 1, F(pool), 0},
	{"MaxUnpool", "", 9, NN_MAX_OPSET, nn_kind_plain, 2, 3, F(max_unpool), 0},
	{"GlobalLpPool", "", ALL, nn_kind_plain, 1, 1, F(global_pool), 1},
	{"GlobalAveragePool", "", ALL, nn_kind_global_avgpool, 1, 1, F(global_pool), 0},
	{"GlobalMaxPool", "", ALL, nn_kind_global_maxpool, 1, 1, F(global_pool), 0},
	{"BatchNormalization", "", 7, NN_MAX_OPSET, nn_kind_batchnorm, 5, 5, F(batchnorm), 0},
	{"InstanceNormalization", "", 6, NN_MAX_OPSET, nn_kind_plain, 3, 3, F(instancenorm), 0},
	{"LayerNormalization", "", 17, NN_MAX_OPSET, nn_kind_layernorm, 2, 3, F(layernorm), 0},
	{"GroupNormalization", "", 18, NN_MAX_OPSET, nn_kind_plain, 3, 3, F(groupnorm), 0},
	{"MeanVarianceNormalization", "", 9, NN_MAX_OPSET, nn_kind_plain, 1, 1, F(mvn), 0},
	{"LpNormalization", "", ALL, nn_kind_plain, 1, 1, F(lp_normalization), 0},
	{"LRN", "", ALL, nn_kind_plain, 1, 1, F(lrn), 0},

	/* matrices, reductions */
	{"Gemm", "", 7, NN_MAX_OPSET, nn_kind_gemm, 2, 3, F(gemm), 0},
	{"MatMul", "", ALL, nn_kind_matmul, 2, 2, F(matmul), 0},
	{"Einsum", "", 12, NN_MAX_OPSET, nn_kind_plain, 1, MANY, F(einsum), 0},
	{"Det", "", 11, NN_MAX_OPSET, nn_kind_plain, 1, 1, F(det), 0},
	{"Softmax", "", ALL, nn_kind_softmax, 1, 1, F(softmax), 0},
	{"LogSoftmax", "", ALL, nn_kind_softmax, 1, 1, F(softmax), 1},
	{"Hardmax", "", ALL, nn_kind_plain, 1, 1, nn_infer_softmax, nn_run_hardmax, 0},
	{"CumSum", "", 11, NN_MAX_OPSET, nn_kind_plain, 2, 2, F(cumsum), 0},
	{"TopK", "", 7, 9, nn_kind_plain, 1, 1, F(topk), 0},
	{"TopK", "", 10, NN_MAX_OPSET, nn_kind_plain, 2, 2, F(topk), 0},
	{"ReduceSum", "", ALL, nn_kind_plain, 1, 2, F(reduce), nn_reduce_sum},
	{"ReduceMean", "", ALL, nn_kind_plain, 1, 2, F(reduce), nn_reduce_mean},
	{"ReduceMax", "", ALL, nn_kind_plain, 1, 2, F(reduce), nn_reduce_max},
	{"ReduceMin", "", ALL, nn_kind_plain, 1, 2, F(reduce), nn_reduce_min},
	{"ReduceProd", "", ALL, nn_kind_plain, 1, 2, F(reduce), nn_reduce_prod},
	{"ReduceL1", "", ALL, nn_kind_plain, 1, 2, F(reduce), nn_reduce_l1},
	{"ReduceL2", "", ALL, nn_kind_plain, 1, 2, F(reduce), nn_reduce_l2},
	{"ReduceLogSum", "", ALL, nn_kind_plain, 1, 2, F(reduce), nn_reduce_log_sum},
	{"ReduceLogSumExp", "", ALL, nn_kind_plain, 1, 2, F(reduce), nn_reduce_log_sum_exp},
	{"ReduceSumSquare", "", ALL, nn_kind_plain, 1, 2, F(reduce), nn_reduce_sum_square},
	{"ArgMax", "", ALL, nn_kind_plain, 1, 1, F(arg), 0},
	{"ArgMin", "", ALL, nn_kind_plain, 1, 1, F(arg), 1},
	{"NegativeLogLikelihoodLoss", "", 12, NN_MAX_OPSET, nn_kind_plain, 2, 3, F(loss), 0},
	{"SoftmaxCrossEntropyLoss", "", 12, NN_MAX_OPSET, nn_kind_plain, 2, 3, F(loss), 1},

	/* as many as the data says */
	{"NonZero", "", 9, NN_MAX_OPSET, nn_kind_plain, 1, 1, F(nonzero), 0},
	{"Compress", "", 9, NN_MAX_OPSET, nn_kind_plain, 2, 2, F(compress), 0},
	{"Unique", "", 11, NN_MAX_OPSET, nn_kind_plain, 1, 1, F(unique), 0},
	{"NonMaxSuppression", "", 10, NN_MAX_OPSET, nn_kind_plain, 2, 5, F(nms), 0},

	/* quantised */
	{"QuantizeLinear", "", 10, NN_MAX_OPSET, nn_kind_plain, 2, 3, F(quantize), 0},
	{"DequantizeLinear", "", 10, NN_MAX_OPSET, nn_kind_plain, 2, 3, F(dequantize), 0},
	{"DynamicQuantizeLinear", "", 11, NN_MAX_OPSET, nn_kind_plain, 1, 1, F(dynamic_quantize), 0},
	{"ConvInteger", "", 10, NN_MAX_OPSET, nn_kind_plain, 2, 4, F(conv_integer), 0},
	{"MatMulInteger", "", 10, NN_MAX_OPSET, nn_kind_plain, 2, 4, F(matmul_integer), 0},
	{"QLinearConv", "", 10, NN_MAX_OPSET, nn_kind_plain, 8, 9, F(qlinear_conv), 0},
	{"QLinearMatMul", "", 10, NN_MAX_OPSET, nn_kind_plain, 8, 8, F(qlinear_matmul), 0},

	/* ai.onnx.ml: the last inputs are models, attached from attributes (ops_ml.h) */
	{"Scaler", ML, 1, 5, nn_kind_plain, 1, 2, F(ml_scaler), NN_ROWS_ALONE},
	{"Imputer", ML, 1, 5, nn_kind_plain, 1, 2, F(ml_imputer), NN_ROWS_ALONE},
	{"Binarizer", ML, 1, 5, nn_kind_plain, 1, 1, F(ml_binarizer), 0},
	{"Normalizer", ML, 1, 5, nn_kind_plain, 1, 1, F(ml_normalizer), NN_ROWS_ALONE},
	{"OneHotEncoder", ML, 1, 5, nn_kind_plain, 1, 2, F(ml_onehot), 0},
	{"LabelEncoder", ML, 2, 5, nn_kind_plain, 1, 3, F(ml_label), 0},
	{"ArrayFeatureExtractor", ML, 1, 5, nn_kind_plain, 2, 2, F(ml_extract), 0},
	{"FeatureVectorizer", ML, 1, 5, nn_kind_plain, 1, MANY, F(ml_vectorize), 0},
	{"ZipMap", ML, 1, 5, nn_kind_alias, 1, 1, F(identity), 0},
	{"LinearRegressor", ML, 1, 5, nn_kind_plain, 1, 2, F(ml_linear_regressor), NN_ROWS_ALONE},
	{"LinearClassifier", ML, 1, 5, nn_kind_plain, 1, 3, F(ml_linear_classifier), NN_ROWS_ALONE},
	{"SVMRegressor", ML, 1, 5, nn_kind_plain, 1, 2, F(ml_svm_regressor), NN_ROWS_ALONE},
	{"SVMClassifier", ML, 1, 5, nn_kind_plain, 1, 4, F(ml_svm_classifier), NN_ROWS_ALONE},
	{"TreeEnsembleRegressor", ML, 1, 5, nn_kind_plain, 1, 2, F(ml_tree_regressor), NN_ROWS_ALONE},
	{"TreeEnsembleClassifier", ML, 1, 5, nn_kind_plain, 1, 3, F(ml_tree_classifier), NN_ROWS_ALONE},
	{"TreeEnsemble", ML, 5, 5, nn_kind_plain, 1, 2, F(ml_trees), NN_ROWS_ALONE},
};

const int	nn_n_ops = (int) (sizeof(nn_ops) / sizeof(nn_ops[0]));

const nn_op *
nn_find_op(const char *domain, const char *name, int opset, bool *known)
{
	*known = false;
	for (int i = 0; i < nn_n_ops; i++)
	{
		if (strcmp(nn_ops[i].name, name) != 0 || strcmp(nn_ops[i].domain, domain) != 0)
			continue;
		*known = true;
		if (opset >= nn_ops[i].since && opset <= nn_ops[i].until)
			return &nn_ops[i];
	}
	return NULL;
}

uint32_t
nn_ops_fingerprint(void)
{
	uint32_t	h = 2166136261u;

	for (int i = 0; i < nn_n_ops; i++)
		for (const char *p = nn_ops[i].name;; p++)
		{
			h = (h ^ (uint8_t) *p) * 16777619u;
			if (*p == '\0')
				break;
		}
	return h;
}
