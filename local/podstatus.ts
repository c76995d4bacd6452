/**
 * What the status of a pod says about its container. PURE: the time is given.
 */
import type { Container, ContainerState } from './container.ts'
import { type Fields, type KubeObject, at, fields, list, text } from './objects.ts'

function stateOf(state: ContainerState): Fields {
  switch (state.kind) {
    case 'waiting':
      return { waiting: { reason: state.reason, ...(state.message === '' ? {} : { message: state.message }) } }
    case 'running':
      return { running: { startedAt: state.startedAt } }
    case 'terminated': {
      const { exitCode, reason, startedAt, finishedAt } = state
      return { terminated: { exitCode, reason, startedAt, finishedAt } }
    }
    default:
      return {}
  }
}

function phaseOf(container: Seen, restart: string): string {
  const { state } = container
  if (state.kind === 'terminated') {
    if (restart === 'Never' || (restart === 'OnFailure' && state.exitCode === 0))
      return state.exitCode === 0 ? 'Succeeded' : 'Failed'
    return 'Running'
  }
  return state.kind === 'waiting' && container.last === null && container.restarts === 0 ? 'Pending' : 'Running'
}

type Seen = Pick<Container, 'state' | 'last' | 'restarts' | 'ready' | 'started' | 'pid'>

/** The whole status; conditions keep the time of their last change. */
export function podStatus(pod: KubeObject, container: Seen, now: string): Fields {
  const before = fields(pod.status)
  const known = list(before.conditions).map(fields)
  const spec = fields(at(pod, 'spec', 'containers', 0))
  const condition = (type: string, holds: boolean, reason = ''): Fields => {
    const status = holds ? 'True' : 'False'
    const old = known.find((each) => each.type === type)
    return {
      type,
      status,
      ...(holds || reason === '' ? {} : { reason, message: `containers with unready status: [${text(spec.name)}]` }),
      lastProbeTime: null,
      lastTransitionTime: old?.status === status ? old.lastTransitionTime : now,
      observedGeneration: pod.metadata.generation,
    }
  }
  const { state, last } = container
  return {
    observedGeneration: pod.metadata.generation,
    phase: phaseOf(container, text(at(pod, 'spec', 'restartPolicy')) || 'Always'),
    conditions: [
      condition('PodReadyToStartContainers', true),
      condition('Initialized', true),
      condition('Ready', container.ready, 'ContainersNotReady'),
      condition('ContainersReady', container.ready, 'ContainersNotReady'),
      condition('PodScheduled', true),
    ],
    hostIP: '127.0.0.1',
    hostIPs: [{ ip: '127.0.0.1' }],
    podIP: '127.0.0.1',
    podIPs: [{ ip: '127.0.0.1' }],
    startTime: before.startTime ?? now,
    containerStatuses: [
      {
        name: text(spec.name),
        image: text(spec.image),
        imageID: '',
        ...(container.pid === null ? {} : { containerID: `process://${container.pid}` }),
        ready: container.ready,
        started: container.started,
        restartCount: container.restarts,
        state: stateOf(state),
        lastState: last === null || last === state ? {} : stateOf(last),
      },
    ],
    qosClass: before.qosClass ?? 'Burstable',
  }
}
