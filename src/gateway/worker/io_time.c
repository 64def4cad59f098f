/*
 * io_time.c
 *	  Connections whose time is over, clients that went away, and those that still send what nobody wants.
 */
#include "gateway/worker/io_count.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define AWAY_US 100000			/* a request must be under way for so long before its client is looked after */
#define MAX_LINGERING 64
#define LINGER_US 2000000
#define LINGER_BYTES (64 * 1024 * 1024)
#define MAX_LOOKS 4096			/* at once */

static struct pollfd sockets[MAX_LOOKS];

/* libmicrohttpd sees the end, and closes it. */
static void
cut(gwi_conn *conn)
{
	conn->cut = true;
	(void) shutdown(conn->fd, SHUT_RDWR);
}

/*
 * Where the end of what a client sends comes together with its last bytes, libmicrohttpd (0.9.75) takes the bytes and
 * never looks for the end.  A connection that was found so twice has nothing in any buffer any more.
 */
static void
look_ended(void)
{
	static gwi_conn *conns[MAX_LOOKS];
	gwi_conn   *conn;
	int			n = 0;

	TAILQ_FOREACH(conn, &gwi_conns, node)
		if (n < MAX_LOOKS && !conn->cut && (conn->request == NULL || conn->request->state == GWI_HEAD || conn->request->state == GWI_BODY))
		{
			sockets[n].fd = conn->fd;
			sockets[n].events = POLLRDHUP;
			conns[n++] = conn;
		}
	if (n == 0 || poll(sockets, (nfds_t) n, 0) <= 0)
		return;
	for (int i = 0; i < n; i++)
	{
		int			unread = 0;

		if (sockets[i].revents == 0 || ioctl(conns[i]->fd, FIONREAD, &unread) != 0 || unread > 0)
			continue;
		if (conns[i]->ended)
			cut(conns[i]);
		conns[i]->ended = true;
	}
}

void
gwi_look_deadlines(int64_t now)
{
	gwi_conn   *conn;

	look_ended();

	TAILQ_FOREACH(conn, &gwi_conns, node)
	{
		if (conn->request && conn->request->stream && conn->request->queued)
			gwi_stream_look(conn->request, now);
		if (conn->deadline_us != 0 && conn->deadline_us <= now && !conn->cut)
		{
			gwi_events[GWI_CUT_SLOW]++;
			cut(conn);
		}
	}
}

/*
 * A connection that is closed with bytes unread is reset, and the client may never read the answer.  So a
 * second descriptor keeps it half open, for a moment, until the client has sent what it wanted to.
 */
static struct
{
	int			fd;
	int64_t		until_us;
	int64_t		bytes;
}			lingering[MAX_LINGERING];
int			gwi_n_lingering = 0;

void
gwi_linger(int fd)
{
	int			copy = gwi_n_lingering < MAX_LINGERING ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;

	if (copy < 0)
		return;
	(void) shutdown(copy, SHUT_WR);
	lingering[gwi_n_lingering].fd = copy;
	lingering[gwi_n_lingering].until_us = gwi_now_us() + LINGER_US;
	lingering[gwi_n_lingering].bytes = 0;
	gwi_n_lingering++;
}

void
gwi_look_lingering(int64_t now)
{
	static char scratch[65536];

	for (int i = gwi_n_lingering - 1; i >= 0; i--)
	{
		ssize_t		n = 0;

		for (int reads = 0; reads < 64 && (n = recv(lingering[i].fd, scratch, sizeof(scratch), MSG_DONTWAIT)) > 0; reads++)
			lingering[i].bytes += n;
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) || now > lingering[i].until_us || lingering[i].bytes > LINGER_BYTES)
		{
			close(lingering[i].fd);
			lingering[i] = lingering[--gwi_n_lingering];
		}
	}
}

static gwi_request *asked[MAX_LOOKS];
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
