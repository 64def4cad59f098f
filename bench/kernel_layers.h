/*
 * kernel_layers.h
 *	  The layers of ResNet-20 (CIFAR), MobileNetV2 and ResNet-50, for the
 *	  benchmarks of kernels.
 */
#ifndef MILLRACE_BENCH_KERNEL_LAYERS_H
#define MILLRACE_BENCH_KERNEL_LAYERS_H

typedef enum kind
{
	CONV, WINOGRAD, STEM, DEPTHWISE, GEMM, GAP
} kind;

typedef struct layer
{
	const char *net;
	kind		kind;
	int			cin,
				cout,
				size,			/* input height and width; gemm: rows */
				k,
				s;
	int			res;			/* with residual */
	int			count;			/* times in the network; 0: for comparison */
} layer;

static const layer layers[] = {
	{"resnet20", STEM, 3, 16, 32, 3, 1, 0, 1},
	{"resnet20", CONV, 16, 16, 32, 3, 1, 0, 0},
	{"resnet20", CONV, 16, 16, 32, 3, 1, 1, 0},
	{"resnet20", CONV, 16, 32, 32, 3, 2, 0, 1},
	{"resnet20", WINOGRAD, 16, 16, 32, 3, 1, 0, 3},
	{"resnet20", WINOGRAD, 16, 16, 32, 3, 1, 1, 3},
	{"resnet20", CONV, 32, 32, 16, 3, 1, 0, 0},
	{"resnet20", CONV, 32, 32, 16, 3, 1, 1, 0},
	{"resnet20", WINOGRAD, 32, 32, 16, 3, 1, 0, 2},
	{"resnet20", WINOGRAD, 32, 32, 16, 3, 1, 1, 3},
	{"resnet20", CONV, 32, 64, 16, 3, 2, 0, 1},
	{"resnet20", CONV, 64, 64, 8, 3, 1, 0, 0},
	{"resnet20", CONV, 64, 64, 8, 3, 1, 1, 0},
	{"resnet20", WINOGRAD, 64, 64, 8, 3, 1, 0, 2},
	{"resnet20", WINOGRAD, 64, 64, 8, 3, 1, 1, 3},
	{"resnet20", GAP, 64, 64, 8, 1, 1, 0, 1},
	{"resnet20", GEMM, 64, 10, 1, 1, 1, 0, 1},
	{"mobilenetv2", STEM, 3, 32, 224, 3, 2, 0, 1},
	{"mobilenetv2", DEPTHWISE, 32, 32, 112, 3, 1, 0, 1},
	{"mobilenetv2", CONV, 32, 16, 112, 1, 1, 0, 1},
	{"mobilenetv2", CONV, 16, 96, 112, 1, 1, 0, 1},
	{"mobilenetv2", DEPTHWISE, 96, 96, 112, 3, 2, 0, 1},
	{"mobilenetv2", CONV, 96, 24, 56, 1, 1, 0, 1},
	{"mobilenetv2", CONV, 24, 144, 56, 1, 1, 0, 2},
	{"mobilenetv2", DEPTHWISE, 144, 144, 56, 3, 1, 0, 1},
	{"mobilenetv2", CONV, 144, 24, 56, 1, 1, 1, 1},
	{"mobilenetv2", DEPTHWISE, 144, 144, 56, 3, 2, 0, 1},
	{"mobilenetv2", CONV, 144, 32, 28, 1, 1, 0, 1},
	{"mobilenetv2", CONV, 32, 192, 28, 1, 1, 0, 3},
	{"mobilenetv2", DEPTHWISE, 192, 192, 28, 3, 1, 0, 2},
	{"mobilenetv2", CONV, 192, 32, 28, 1, 1, 1, 2},
	{"mobilenetv2", DEPTHWISE, 192, 192, 28, 3, 2, 0, 1},
	{"mobilenetv2", CONV, 192, 64, 14, 1, 1, 0, 1},
	{"mobilenetv2", CONV, 64, 384, 14, 1, 1, 0, 4},
	{"mobilenetv2", DEPTHWISE, 384, 384, 14, 3, 1, 0, 4},
	{"mobilenetv2", CONV, 384, 64, 14, 1, 1, 1, 3},
	{"mobilenetv2", CONV, 384, 96, 14, 1, 1, 0, 1},
	{"mobilenetv2", CONV, 96, 576, 14, 1, 1, 0, 3},
	{"mobilenetv2", DEPTHWISE, 576, 576, 14, 3, 1, 0, 2},
	{"mobilenetv2", CONV, 576, 96, 14, 1, 1, 1, 2},
	{"mobilenetv2", DEPTHWISE, 576, 576, 14, 3, 2, 0, 1},
	{"mobilenetv2", CONV, 576, 160, 7, 1, 1, 0, 1},
	{"mobilenetv2", CONV, 160, 960, 7, 1, 1, 0, 3},
	{"mobilenetv2", DEPTHWISE, 960, 960, 7, 3, 1, 0, 3},
	{"mobilenetv2", CONV, 960, 160, 7, 1, 1, 1, 2},
	{"mobilenetv2", CONV, 960, 320, 7, 1, 1, 0, 1},
	{"mobilenetv2", CONV, 320, 1280, 7, 1, 1, 0, 1},
	{"mobilenetv2", GAP, 1280, 1280, 7, 1, 1, 0, 1},
	{"mobilenetv2", GEMM, 1280, 1000, 1, 1, 1, 0, 1},
	{"resnet50", STEM, 3, 64, 224, 7, 2, 0, 1},
	{"resnet50", CONV, 64, 64, 56, 1, 1, 0, 1},
	{"resnet50", CONV, 64, 64, 56, 3, 1, 0, 0},
	{"resnet50", WINOGRAD, 64, 64, 56, 3, 1, 0, 3},
	{"resnet50", CONV, 64, 256, 56, 1, 1, 1, 4},
	{"resnet50", CONV, 256, 64, 56, 1, 1, 0, 2},
	{"resnet50", CONV, 256, 128, 56, 1, 1, 0, 1},
	{"resnet50", CONV, 128, 128, 56, 3, 2, 0, 1},
	{"resnet50", CONV, 256, 512, 56, 1, 2, 0, 1},
	{"resnet50", CONV, 128, 512, 28, 1, 1, 1, 4},
	{"resnet50", CONV, 512, 128, 28, 1, 1, 0, 3},
	{"resnet50", CONV, 128, 128, 28, 3, 1, 0, 0},
	{"resnet50", WINOGRAD, 128, 128, 28, 3, 1, 0, 3},
	{"resnet50", CONV, 512, 256, 28, 1, 1, 0, 1},
	{"resnet50", CONV, 256, 256, 28, 3, 2, 0, 1},
	{"resnet50", CONV, 512, 1024, 28, 1, 2, 0, 1},
	{"resnet50", CONV, 256, 1024, 14, 1, 1, 1, 6},
	{"resnet50", CONV, 1024, 256, 14, 1, 1, 0, 5},
	{"resnet50", CONV, 256, 256, 14, 3, 1, 0, 0},
	{"resnet50", WINOGRAD, 256, 256, 14, 3, 1, 0, 5},
	{"resnet50", CONV, 1024, 512, 14, 1, 1, 0, 1},
	{"resnet50", CONV, 512, 512, 14, 3, 2, 0, 1},
	{"resnet50", CONV, 1024, 2048, 14, 1, 2, 0, 1},
	{"resnet50", CONV, 512, 2048, 7, 1, 1, 1, 3},
	{"resnet50", CONV, 2048, 512, 7, 1, 1, 0, 2},
	{"resnet50", CONV, 512, 512, 7, 3, 1, 0, 0},
	{"resnet50", WINOGRAD, 512, 512, 7, 3, 1, 0, 2},
	{"resnet50", GAP, 2048, 2048, 7, 1, 1, 0, 1},
	{"resnet50", GEMM, 2048, 1000, 1, 1, 1, 0, 1},
};
#define LAYERS ((int) (sizeof(layers) / sizeof(layers[0])))

#endif							/* MILLRACE_BENCH_KERNEL_LAYERS_H */
