/** How we know again what is ours where there is no room for a name. Links in the host's namespace carry it in their alias. */

/** Marks routes of ours: any number that /etc/iproute2/rt_protos and linux/rtnetlink.h leave free ("tn" begins with 0x74). */
export const routeProtocol = 0x74

/**
 * Marks links of ours from their creation on, until they have their alias; those made inside a sandbox's namespace for good. The
 * kernel takes a link group in the very message that creates the link, an alias only in a second one, and a crash may fall
 * between the two. Any number ("tn").
 */
export const linkGroup = 0x746e
