/*
 * test_quality_box_fit.c
 *	  Boxes drawn where rectangles are, mirrored, turned, shifted; and numbers
 *	  that are no boxes.
 */
#include "quality/box_fit.h"
#include "unit.h"

#include <math.h>
#include <string.h>

#define W 300
#define H 200

static const mr_env *env = &mr_env_malloc;
static uint8_t data[W * H * 3 + IMG_SLACK];
static img_pixels image = {W, H, 3, W * 3, data};
static const qlt_box objects[] = {{20, 30, 80, 90}, {120, 100, 190, 160}, {220, 20, 280, 70}};

/* Three dark rectangles on a light ground with some texture. */
static void
draw(void)
{
	for (int y = 0; y < H; y++)
		for (int x = 0; x < W; x++)
			memset(data + (y * W + x) * 3, 180 + (x * 7 + y * 13) % 20, 3);
	for (int i = 0; i < 3; i++)
		for (int y = (int) objects[i].y1; y < (int) objects[i].y2; y++)
			memset(data + (y * W + (int) objects[i].x1) * 3, 60 + 20 * i, (size_t) (objects[i].x2 - objects[i].x1) * 3);
}

static qlt_box_fit
fit(const qlt_box *boxes, int n)
{
	qlt_box_fit out;
	mr_status	st;

	ok(qlt_fit_boxes(env, &image, boxes, n, &out, &st) == MR_OK, "boxes are looked at");
	return out;
}

int
main(void)
{
	qlt_box		b[40];
	qlt_box_fit f;

	draw();
	f = fit(objects, 3);
	ok(f.boxes == 3 && f.fit > 70 && f.move == QLT_STAY && f.best == f.fit, "boxes where the objects are fit best");
	for (int i = 0; i < 3; i++)
		b[i] = (qlt_box) {W - objects[i].x2, objects[i].y1, W - objects[i].x1, objects[i].y2};
	f = fit(b, 3);
	ok(f.move == QLT_MIRROR && f.best > 2 * f.fit, "boxes of the mirrored image are said to be mirrored");
	for (int i = 0; i < 3; i++)
		b[i] = (qlt_box) {W - objects[i].x2, H - objects[i].y2, W - objects[i].x1, H - objects[i].y1};
	f = fit(b, 3);
	ok(f.move == QLT_TURN_180 && f.best > 2 * f.fit, "boxes of the image upside down");
	/* an image of 200 x 300 that was turned right: its (x, y) is our (W - y, x) */
	for (int i = 0; i < 3; i++)
		b[i] = (qlt_box) {objects[i].y1, W - objects[i].x2, objects[i].y2, W - objects[i].x1};
	f = fit(b, 3);
	ok(f.move == QLT_TURN_RIGHT && f.best > 2 * f.fit, "boxes of the image before it was turned");
	for (int i = 0; i < 3; i++)
		b[i] = (qlt_box) {objects[i].x1 + 15, objects[i].y1 - 20, objects[i].x2 + 15, objects[i].y2 - 20};
	f = fit(b, 3);
	ok(f.move == QLT_SHIFT && fabsf(f.dx + 15) < 4 && fabsf(f.dy - 20) < 4, "shifted boxes, and by how much");

	for (int i = 0; i < 40; i++)
		b[i] = objects[i % 3];
	ok(fit(b, 40).boxes <= 16, "of many boxes some are looked at");
	b[0] = (qlt_box) {NAN, 0, 50, 50};
	b[1] = (qlt_box) {0, 0, INFINITY, INFINITY};
	b[2] = (qlt_box) {-1e30f, -1e30f, 1e30f, 1e30f};
	b[3] = (qlt_box) {50, 50, 20, 20};
	b[4] = (qlt_box) {0, 0, W, H};
	b[5] = (qlt_box) {10, 10, 12, 12};
	b[6] = (qlt_box) {1e9f, 1e9f, 1e9f + 100, 1e9f + 100};
	f = fit(b, 7);
	ok(f.boxes == 0 && f.fit == 0, "what is no box is passed over");
	ok(fit(b, 0).boxes == 0, "no boxes");
	b[0] = (qlt_box) {-20, -20, 40, 40};
	b[1] = (qlt_box) {280, 180, 340, 240};
	ok(fit(b, 2).boxes == 2, "boxes that reach over the edge");
	image.width = image.height = 3;
	ok(fit(objects, 3).boxes == 0, "an image smaller than a box can be");
	return done_testing();
}
