/*
 * io_time.c
 *	  Connections whose time is over, and clients that went away.
 */
#include "gateway/worker/io.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#define AWAY_US 100000			/* a request must be under way for so long before its client is looked after */
#define MAX_LOOKS 4096			/* at once */

void
gwi_look_deadlines(int64_t now)
{
	gwi_conn   *conn;

	TAILQ_FOREACH(conn, &gwi_conns, node)
	{
		if (conn->request && conn->request->stream && conn->request->queued)
			gwi_stream_look(conn->request, now);
		if (conn->deadline_us != 0 && conn->deadline_us <= now && !conn->cut)
		{
			/* libmicrohttpd sees the end, and closes it */
			conn->cut = true;
			(void) shutdown(conn->fd, SHUT_RDWR);
		}
	}
}

static gwi_request *asked[MAX_LOOKS];
static struct pollfd sockets[MAX_LOOKS];
static int	n_asked;

static void
ask(gwi_request *r, int64_t now)
{
	if (r && now - r->came_us > AWAY_US && n_asked < MAX_LOOKS)
	{
		sockets[n_asked].fd = r->conn->fd;
		sockets[n_asked].events = POLLRDHUP;
		asked[n_asked++] = r;
	}
}

void
gwi_look_away(int64_t now, void (*away) (gwi_request *r))
{
	gwi_request *r;

	n_asked = 0;
	for (int b = 0; b < GWI_MAX_BOXES; b++)
		ask(gwi_in_box[b], now);
	TAILQ_FOREACH(r, &gwi_waiting, node)
		ask(r, now);
	TAILQ_FOREACH(r, &gwi_pending, node)
		ask(r, now);
	if (n_asked == 0 || poll(sockets, (nfds_t) n_asked, 0) <= 0)
		return;
	for (int i = 0; i < n_asked; i++)
		if (sockets[i].revents & (POLLRDHUP | POLLHUP | POLLERR))
			away(asked[i]);
}
