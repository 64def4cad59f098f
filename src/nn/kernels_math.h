/*
 * kernels_math.h
 *	  exp, expm1, tanh, sigmoid and GELU of a vector, compiled in each instruction
 *	  set's file.
 *
 * exp follows Cephes (range reduction by ln 2 in two parts, polynomial of
 * degree 6 on +-ln(2)/2; about 1 ulp), tanh its polynomial for small arguments,
 * GELU's erf a rational approximation on [-4, 4] as Eigen's (2 to 3 ulp).  Infinities and NaNs
 * come out as C's functions give them; results below 2^-126 are 0.
 */

/* of -87.3 to 88.7 */
NN_INLINE vf
vf_exp_within(vf c)
{
	vf			magic = vf_set1(12582912.0f);	/* 1.5 * 2^23: rounds to an integer */
	vf			t = vf_fma(c, vf_set1(1.44269504088896341f), magic);
	vf			n = t - magic;
	vf			r = vf_fma(n, vf_set1(-0.693359375f), c);
	vf			p = vf_set1(1.9875691500e-4f);

	r = vf_fma(n, vf_set1(2.12194440e-4f), r);
	p = vf_fma(p, r, vf_set1(1.3981999507e-3f));
	p = vf_fma(p, r, vf_set1(8.3334519073e-3f));
	p = vf_fma(p, r, vf_set1(4.1665795894e-2f));
	p = vf_fma(p, r, vf_set1(1.6666665459e-1f));
	p = vf_fma(p, r, vf_set1(5.0000001201e-1f));
	p = vf_fma(p, r * r, r) + vf_set1(1);
	/* the low bits of t hold n: into the exponent of p (in [0.7, 1.42]) */
	return (vf) ((vi) p + (((vi) t - (vi) magic) << 23));
}

NN_INLINE vf
vf_exp(vf x)
{
	vf			y = vf_exp_within(vf_min(vf_set1(88.7228317f), vf_max(vf_set1(-87.3365478515625f), x)));

	y = vf_select((vi) (x > vf_set1(88.72283f)), vf_set1(INFINITY), y);
	y = vf_select((vi) (x < vf_set1(-87.3365478515625f)), vf_set1(0), y);
	return vf_select((vi) (x != x), x, y);
}

NN_INLINE vf
vf_sigmoid(vf x)
{
	return vf_set1(1) / (vf_set1(1) + vf_exp(vf_set1(0) - x));
}

/* x sigmoid(x); NaN comes from the numerator */
NN_INLINE vf
vf_silu(vf x)
{
	vf			e = vf_exp_within(vf_min(vf_set1(88.7228317f), vf_max(vf_set1(-87.3365478515625f), vf_set1(0) - x)));

	return vf_select((vi) (x < vf_set1(-104.0f)), vf_set1(0), x / (vf_set1(1) + e));
}

NN_INLINE vf
vf_tanh(vf x)
{
	vf			z = x * x;
	vf			p = vf_set1(-5.70498872745e-3f);
	vf			big;
	vf			a = vf_max(x, vf_set1(0) - x);

	p = vf_fma(p, z, vf_set1(2.06390887954e-2f));
	p = vf_fma(p, z, vf_set1(-5.37397155531e-2f));
	p = vf_fma(p, z, vf_set1(1.33314422036e-1f));
	p = vf_fma(p, z, vf_set1(-3.33332819422e-1f));
	p = vf_fma(p * z, x, x);
	big = vf_set1(1) - vf_set1(2) / (vf_set1(1) + vf_exp(x + x));
	return vf_select((vi) (a < vf_set1(0.625f)), p, big);
}

/* exp(x) - 1 for x <= 0, without cancellation near 0 */
NN_INLINE vf
vf_expm1(vf x)
{
	vf			t = vf_tanh(vf_set1(0.5f) * x);

	return (t + t) / (vf_set1(1) - t);
}

/* x (1 + erf(x / sqrt 2)) / 2; the 2 of z = x^2 / 2 and the root are in the constants */
NN_INLINE vf
vf_gelu(vf x)
{
#define P(k, c) vf_set1((float) (0.70710678118654752 * (c) / (1 << (k))))
#define Q(k, c) vf_set1((float) ((c) / (1 << (k))))
	const float most = 5.65685424949238f;	/* 4 sqrt 2 */
	vf			c = vf_min(vf_set1(most), vf_max(vf_set1(-most), x));
	vf			z = c * c;
	vf			p = P(6, -2.72614225801306e-10);
	vf			q = Q(4, -1.45660718464996e-05);

	p = vf_fma(p, z, P(5, 2.77068142495902e-08));
	q = vf_fma(q, z, Q(3, -2.13374055278905e-04));
	p = vf_fma(p, z, P(4, -2.10102402082508e-06));
	q = vf_fma(q, z, Q(2, -1.68282697438203e-03));
	p = vf_fma(p, z, P(3, -5.69250639462346e-05));
	q = vf_fma(q, z, Q(1, -7.37332916720468e-03));
	p = vf_fma(p, z, P(2, -7.34990630326855e-04));
	q = vf_fma(q, z, Q(0, -1.42647390514189e-02));
	p = vf_fma(p, z, P(1, -2.95459980854025e-03));
	p = vf_fma(p, z, P(0, -1.60960333262415e-02));
	return vf_set1(0.5f) * x * (vf_set1(1) + c * p / q);
#undef P
#undef Q
}
