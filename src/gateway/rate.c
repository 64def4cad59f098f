/*
 * rate.c
 *	  See rate.h.
 */
#include "gateway/rate.h"

static uint64_t
mix(uint64_t x)
{
	x ^= x >> 30;
	x *= UINT64_C(0xbf58476d1ce4e5b9);
	x ^= x >> 27;
	x *= UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

bool
gw_rate_take(gw_rate *rate, uint64_t whom, uint64_t what, int per_minute, int64_t now_us, int *wait_s)
{
	double		per_us = per_minute / 60e6;
	uint64_t	key = mix(mix(whom + 1) ^ (what + 1)) | 1;
	gw_rate_place *set = &rate->place[(key >> 8) % (GW_RATE_PLACES / GW_RATE_WAYS) * GW_RATE_WAYS];
	gw_rate_place *p = &set[0];
	double		fullest = -1;

	for (int i = 0; i < GW_RATE_WAYS; i++)
	{
		double		full;

		if (set[i].key == key)
		{
			p = &set[i];
			break;
		}
		full = set[i].key == 0 ? 2 : (set[i].left + (double) (now_us - set[i].since_us) * per_us) / set[i].most;
		if (full > fullest)
		{
			fullest = full;
			p = &set[i];
		}
	}
	if (p->key != key || p->most != per_minute)
	{
		p->key = key;
		p->most = p->left = per_minute;
		p->since_us = now_us;
	}
	p->left += (double) (now_us - p->since_us) * per_us;
	if (p->left > p->most)
		p->left = p->most;
	p->since_us = now_us;
	if (p->left >= 1)
	{
		p->left -= 1;
		return true;
	}
	*wait_s = (int) ((1 - p->left) / per_us / 1e6) + 1;
	return false;
}
