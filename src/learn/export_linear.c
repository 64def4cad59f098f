/*
 * export_linear.c
 *	  Linear models as ONNX: logistic regression, linear SVM, ridge, PCA.
 *
 * Weights are float32, products and sums double, as in kernels_predict.h.
 */
#include "learn/export.h"

mr_code
lrn_linear_export(lrn_export *e, const char *out)
{
	const lrn_model *m = e->m;
	int64_t		shape[2] = {m->info.n_features, m->sigmoid ? 1 : m->info.n_outputs};
	size_t		row = (size_t) shape[1] * sizeof(float),
				at;

	lrn_onnx_cast(e, "x", "X", MR_ONNX_DOUBLE);
	if (m->mean)
	{
		lrn_onnx_floats(e, "mean_narrow", 1, shape, m->mean);
		lrn_onnx_cast(e, "mean", "mean_narrow", MR_ONNX_DOUBLE);
		lrn_onnx_op(e, "Sub", "centred", "x", "mean", NULL);
	}
	at = mr_onnx_tensor_begin(&e->w, 5, "weights_narrow", MR_ONNX_FLOAT, 2, shape, row * (size_t) shape[0]);
	for (int64_t j = 0; j < shape[0]; j++)
		mr_onnx_append(&e->w, m->weights + (size_t) j * (size_t) m->padded, row);
	mr_onnx_end(&e->w, at);
	lrn_onnx_cast(e, "weights", "weights_narrow", MR_ONNX_DOUBLE);
	lrn_onnx_doubles(e, "bias", 1, shape + 1, m->bias);
	lrn_onnx_op(e, "MatMul", "products", m->mean ? "centred" : "x", "weights", NULL);
	lrn_onnx_op(e, "Add", "margins", "products", "bias", NULL);
	if (m->sigmoid)
		lrn_onnx_two_classes(e, "margins", out);
	else if (m->softmax)
		lrn_onnx_softmax(e, "margins", out);
	else
		lrn_onnx_cast(e, out, "margins", MR_ONNX_FLOAT);
	return MR_OK;
}
