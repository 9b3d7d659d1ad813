import type { PortBinding, PortSpec } from '../cnm/types.js'

/** `-p` as Docker writes it: `[ip:][hostPort[-end]:]containerPort[-end][/tcp|udp|sctp]`. Throws InvalidParameter. */
export declare function parsePortSpec(text: string): PortSpec
/** The shortest text that parses to the same spec. */
export declare function formatPortSpec(spec: PortSpec): string
/** As `docker ps` shows it: `0.0.0.0:8080->80/tcp`, `[::]:9000-9002->9000-9002/tcp`. */
export declare function formatBinding(binding: PortBinding): string
