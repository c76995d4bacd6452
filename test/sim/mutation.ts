/** A line that is broken on purpose; the lists of them are in mutations.ts. */

export interface Mutation {
  readonly name: string
  /** The simulator that has to notice. */
  readonly simulator: 'core' | 'shell'
  readonly file: string
  readonly from: string
  readonly to: string
  /** The golden story that is there for this line: it must be broken. */
  readonly story?: string
}

/** How the lines of one simulator are written down; files are named without `folder` and `.ts`. */
export const linesOf =
  (simulator: Mutation['simulator'], folder: string) =>
  (name: string, file: string, from: string, to: string, story?: string): Mutation => ({
    name,
    simulator,
    file: `${folder}/${file}.ts`,
    from,
    to,
    ...(story === undefined ? {} : { story }),
  })
