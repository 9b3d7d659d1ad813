import type { z } from 'zod'
import type { Cnm } from '../cnm/cnm.js'
import type { Diagnosis } from '../cnm/diagnosis.js'
import { notFound } from '../errors.js'
import {
  connectSpec,
  disconnectSpec,
  eventsQuery,
  explainSpec,
  networkSpec,
  nothing,
  publishSpec,
  reconcileSpec,
  removeHostSpec,
  sandboxSpec,
  unpublishSpec,
} from './schemas.js'

/** What a handler works with. */
export interface Deps {
  cnm: Cnm
  diagnosis: Diagnosis
  /** answered as it is by `GET /v1/version` */
  version: object
}

export interface Request<Body> {
  /** the `:ref` of the path: id, name, or the start of an id that fits only one */
  ref: string
  /** what the row's schema makes of the body, or of the query of a GET */
  body: Body
  /** aborts when the client has gone */
  signal: AbortSignal
}

/**
 * One row of the REST API. An answer of undefined is `204 No Content`, one that is iterated is a line of JSON for each
 * object as it comes (application/x-ndjson), any other is JSON under `status`.
 */
export interface Route<Body = unknown> {
  method: 'get' | 'post' | 'delete'
  path: string
  /** of the body, or of the query of a GET; absent: not read */
  body?: z.ZodType<Body>
  /** of success; 200 when absent */
  status?: number
  handler(deps: Deps, request: Request<Body>): unknown
}

/** Ties a row's handler to the type of its own schema, and forgets it for the table. */
const route = <Body>(row: Route<Body>): Route => row as Route

export const routes: readonly Route[] = [
  route({ method: 'get', path: '/v1/version', handler: ({ version }) => version }),

  route({
    method: 'post',
    path: '/v1/networks',
    body: networkSpec,
    status: 201,
    handler: ({ cnm }, { body }) => cnm.createNetwork(body),
  }),
  route({ method: 'get', path: '/v1/networks', handler: ({ cnm }) => cnm.networks() }),
  route({
    method: 'post',
    path: '/v1/networks/prune',
    body: nothing,
    handler: async ({ cnm }) => ({ deleted: await cnm.pruneNetworks() }),
  }),
  route({ method: 'get', path: '/v1/networks/:ref', handler: ({ cnm }, { ref }) => cnm.network(ref) }),
  route({ method: 'delete', path: '/v1/networks/:ref', handler: ({ cnm }, { ref }) => cnm.deleteNetwork(ref) }),
  route({
    method: 'post',
    path: '/v1/networks/:ref/connect',
    body: connectSpec,
    status: 201,
    handler: ({ cnm }, { ref, body: { sandbox, ...spec } }) => cnm.connect(ref, sandbox, spec),
  }),
  route({
    method: 'post',
    path: '/v1/networks/:ref/disconnect',
    body: disconnectSpec,
    handler: ({ cnm }, { ref, body: { sandbox, ...options } }) => cnm.disconnect(ref, sandbox, options),
  }),
  // it changes nothing, but has every host look at itself
  route({
    method: 'post',
    path: '/v1/networks/:ref/verify',
    body: nothing,
    handler: ({ cnm }, { ref }) => cnm.verifyOverlay(ref),
  }),

  route({ method: 'get', path: '/v1/hosts', handler: ({ cnm }) => cnm.hosts() }),
  route({
    method: 'get',
    path: '/v1/hosts/:ref',
    handler: async ({ cnm }, { ref }) => {
      const host = (await cnm.hosts()).find(({ id, name }) => name === ref || id === ref)
      if (host === undefined) throw notFound(`there is no host ${ref}`)
      return host
    },
  }),
  route({
    method: 'delete',
    path: '/v1/hosts/:ref',
    body: removeHostSpec,
    handler: ({ cnm }, { ref, body }) => cnm.removeHost(ref, body),
  }),

  route({
    method: 'post',
    path: '/v1/sandboxes',
    body: sandboxSpec,
    status: 201,
    handler: ({ cnm }, { body }) => cnm.createSandbox(body),
  }),
  route({ method: 'get', path: '/v1/sandboxes', handler: ({ cnm }) => cnm.sandboxes() }),
  route({ method: 'get', path: '/v1/sandboxes/:ref', handler: ({ cnm }, { ref }) => cnm.sandbox(ref) }),
  route({ method: 'delete', path: '/v1/sandboxes/:ref', handler: ({ cnm }, { ref }) => cnm.deleteSandbox(ref) }),

  route({ method: 'get', path: '/v1/endpoints', handler: ({ cnm }) => cnm.endpoints() }),
  route({
    method: 'post',
    path: '/v1/endpoints/:ref/publish',
    body: publishSpec,
    status: 201,
    handler: ({ cnm }, { ref, body }) => cnm.publish(ref, body),
  }),
  route({
    method: 'post',
    path: '/v1/endpoints/:ref/unpublish',
    body: unpublishSpec,
    handler: ({ cnm }, { ref, body }) => cnm.unpublish(ref, body),
  }),
  route({ method: 'get', path: '/v1/inspect/:ref', handler: ({ cnm }, { ref }) => cnm.inspect(ref) }),
  route({
    method: 'get',
    path: '/v1/events',
    body: eventsQuery,
    handler: ({ cnm }, { body, signal }) => cnm.events({ ...body, signal }),
  }),
  route({
    method: 'post',
    path: '/v1/reconcile',
    body: reconcileSpec,
    handler: ({ cnm }, { body }) => cnm.reconcile(body),
  }),
  route({ method: 'get', path: '/v1/doctor', handler: ({ diagnosis }) => diagnosis.doctor() }),
  // it changes nothing, but sends a packet
  route({
    method: 'post',
    path: '/v1/explain',
    body: explainSpec,
    handler: ({ diagnosis }, { body }) => diagnosis.explain(body),
  }),
]
