# One image, two entry points: the node (`node src/main.ts node`) and the operator (`node operator/main.ts`).
# No build step: Node runs the TypeScript as it is. Not root, and nothing in the image needs to be writable.
FROM node:24-bookworm-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund \
  && find node_modules -name '*.map' -delete \
  && find node_modules -name '*.md' -not -iname 'license*' -delete

FROM node:24-bookworm-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=dependencies /app/node_modules node_modules
COPY package.json LICENSE* ./
COPY src src
COPY operator operator
# Compiled code is kept beside the source: a start takes a third of the CPU time. Node.js keeps it by user id.
ENV NODE_COMPILE_CACHE=/app/.compile-cache
# As in src/contract.ts.
ENV NODE_OPTIONS=--max-semi-space-size=16
ENV MALLOC_ARENA_MAX=2
ENV MALLOC_MMAP_THRESHOLD_=131072
ENV MALLOC_TRIM_THRESHOLD_=1048576
RUN install -d -o 1000 -g 1000 .compile-cache
# The user `node` of the base image, by number, so that `runAsNonRoot` can be checked.
USER 1000:1000
RUN node src/main.ts --version && node operator/main.ts --help >/dev/null
# client, http, admin, peer (src/contract.ts)
EXPOSE 6379 8080 8081 7400
CMD ["node", "src/main.ts", "node"]
