/**
 * Claims and volumes: every claim is bound at once to a folder of its own. A claim that is deleted while a pod
 * uses it waits for the pod; then its folder goes with it. Growing a claim is a matter of words: folders have no size.
 */
import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { erase } from './delete.ts'
import { record } from './events.ts'
import { Loop } from './loop.ts'
import { type Fields, type KubeObject, at, list, same, text } from './objects.ts'
import type { Registry } from './registry.ts'
import { builtIn } from './resources.ts'

const CLAIMS = builtIn('persistentvolumeclaims')
const VOLUMES = builtIn('persistentvolumes')
const PODS = builtIn('pods')
const CLASSES = builtIn('storageclasses')
const PROTECTION = 'kubernetes.io/pvc-protection'
const COMPONENT = 'volume-controller'

const volumeName = (claim: KubeObject): string => `pvc-${claim.metadata.uid}`

/** Starts the loop. `folder` holds one folder for each volume. */
export function startVolumes(registry: Registry, folder: string): Loop {
  mkdirSync(folder, { recursive: true })
  ensureClass(registry)
  return new Loop(registry, [CLAIMS.key, PODS.key, VOLUMES.key], () => {
    for (const claim of registry.list(CLAIMS)) {
      if (claim.metadata.deletionTimestamp === undefined) bind(registry, claim, folder)
      else release(registry, claim)
    }
    reclaim(registry, folder)
  })
}

function ensureClass(registry: Registry): void {
  if (registry.store.get(CLASSES.key, '', 'standard') !== null) return
  registry.add(CLASSES, {
    apiVersion: 'storage.k8s.io/v1',
    kind: 'StorageClass',
    metadata: { name: 'standard', annotations: { 'storageclass.kubernetes.io/is-default-class': 'true' } },
    provisioner: 'lokikv.dev/local-folder',
    reclaimPolicy: 'Delete',
    volumeBindingMode: 'Immediate',
    allowVolumeExpansion: true,
  })
}

function bind(registry: Registry, claim: KubeObject, folder: string): void {
  const { name, namespace, uid } = claim.metadata
  const path = join(folder, volumeName(claim))
  const capacity = at(claim, 'spec', 'resources', 'requests') as Fields
  const wanted: Fields = { phase: 'Bound', accessModes: at(claim, 'spec', 'accessModes'), capacity }
  if (registry.store.get(VOLUMES.key, '', volumeName(claim)) === null) {
    mkdirSync(path, { recursive: true })
    registry.add(VOLUMES, {
      apiVersion: 'v1',
      kind: 'PersistentVolume',
      metadata: { name: volumeName(claim) },
      spec: {
        capacity,
        accessModes: at(claim, 'spec', 'accessModes'),
        persistentVolumeReclaimPolicy: 'Delete',
        storageClassName: at(claim, 'spec', 'storageClassName'),
        volumeMode: 'Filesystem',
        claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace, name, uid },
        hostPath: { path },
      },
    })
    registry.change(VOLUMES, '', volumeName(claim), 'status', (volume) => {
      volume.status = { phase: 'Bound' }
    })
    registry.change(CLAIMS, namespace ?? '', name, 'main', (object) => {
      object.spec = { ...object.spec, volumeName: volumeName(claim) }
      object.metadata.finalizers = [...new Set([...(object.metadata.finalizers ?? []), PROTECTION])]
    })
    const message = `Successfully provisioned volume ${volumeName(claim)}`
    record(registry, COMPONENT, claim, 'Normal', 'ProvisioningSucceeded', message)
  }
  if (same(claim.status, wanted)) return
  registry.change(CLAIMS, namespace ?? '', name, 'status', (object) => {
    object.status = wanted
  })
}

/** Whether a pod that has a place to run names this claim. */
function isUsed(registry: Registry, claim: KubeObject): boolean {
  return registry
    .list(PODS, claim.metadata.namespace ?? '')
    .some(
      (pod) =>
        text(at(pod, 'spec', 'nodeName')) !== '' &&
        list(at(pod, 'spec', 'volumes')).some(
          (volume) => at(volume, 'persistentVolumeClaim', 'claimName') === claim.metadata.name,
        ),
    )
}

function release(registry: Registry, claim: KubeObject): void {
  const finalizers = claim.metadata.finalizers ?? []
  if (isUsed(registry, claim)) return
  if (finalizers.includes(PROTECTION)) {
    registry.change(CLAIMS, claim.metadata.namespace ?? '', claim.metadata.name, 'main', (object) => {
      object.metadata.finalizers = finalizers.filter((each) => each !== PROTECTION)
    })
  } else erase(registry, CLAIMS, claim)
}

/** Volumes whose claim is gone go, and folders that belong to no volume. */
function reclaim(registry: Registry, folder: string): void {
  const claims = new Set(registry.list(CLAIMS).map(volumeName))
  for (const volume of registry.list(VOLUMES)) {
    if (!claims.has(volume.metadata.name)) registry.store.remove(VOLUMES.key, volume)
  }
  for (const entry of readdirSync(folder)) {
    if (entry.startsWith('pvc-') && !claims.has(entry)) rmSync(join(folder, entry), { recursive: true, force: true })
  }
}

/** The folder of a claim that is bound; null where there is none. */
export function folderOf(registry: Registry, namespace: string, claim: string): string | null {
  const object = registry.store.get(CLAIMS.key, namespace, claim)
  if (object === null || object.metadata.deletionTimestamp !== undefined) return null
  const volume = registry.store.get(VOLUMES.key, '', volumeName(object))
  return text(at(volume, 'spec', 'hostPath', 'path')) || null
}
