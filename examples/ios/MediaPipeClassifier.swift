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
        guard let pixels = image.cgImage.flatMap(model.padded) else { return [] }
        // Without a region of interest, MediaPipe squashes the whole image to the model's size.
        let result = try classifier.classify(
            image: MPImage(uiImage: UIImage(cgImage: pixels)), regionOfInterest: model.region(of: pixels))
        let categories = result.classificationResult.classifications.first?.categories ?? []
        return categories.map { (label: $0.categoryName ?? "", probability: $0.score) }
    }
}
