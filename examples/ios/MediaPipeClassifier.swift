// UIImage -> (label, probability), best first, by MediaPipe Tasks

import MediaPipeTasksVision
import UIKit

final class MediaPipeClassifier {
    private let model: ModelFile
    private let classifier: ImageClassifier

    init(model: ModelFile) throws {
        self.model = model
        let options = ImageClassifierOptions()
        options.baseOptions.modelAssetPath = model.path
        options.maxResults = 5
        classifier = try ImageClassifier(options: options)
    }

    func classify(_ image: UIImage) throws -> [(label: String, probability: Float)] {
        guard let pixels = image.cgImage else { return [] }
        // Without the part, MediaPipe would squash the whole image.
        let result = try classifier.classify(
            image: MPImage(uiImage: image), regionOfInterest: model.part(of: pixels))
        let found = result.classificationResult.classifications.first?.categories ?? []
        return found.map { (label: $0.categoryName ?? "", probability: $0.score) }
    }
}
